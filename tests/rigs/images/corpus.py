"""Owns the choice of real files and the edits that make new versions of them. Reads no project file."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rigs.images import ext4
from rigs.paths import PROJECT

ROOTS = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/share", "/usr/include")
PACKAGE_FILES = 64
"""Most files taken from one directory at a time: else one huge library directory would be the whole image."""

LARGEST_BYTES = 64 << 20
"""No single file above this is taken: a new version of it is edited in memory."""


@dataclass(frozen=True, slots=True)
class Source:
    """One real file or symbolic link of this machine: path, length, link target or None."""

    path: str
    size_bytes: int
    target: str | None

    @property
    def allocated_bytes(self) -> int:
        return -(-self.size_bytes // ext4.FS_BLOCK_BYTES) * ext4.FS_BLOCK_BYTES


@functools.lru_cache(maxsize=4)
def packages(roots: tuple[str, ...] = ROOTS) -> tuple[tuple[Source, ...], ...]:
    """The machine's regular files and symbolic links below `roots`, sorted, in groups of one directory each.

    Left out: what can't be read, names debugfs can't take, byte-compiled Python (it comes and goes as
    programs run), files with several links beyond their first name, and everything inside the project.
    Listed once a process, so two builds in one process see the same files. Raises ValueError where nothing
    is left.
    """
    groups: list[tuple[Source, ...]] = []
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for directory, below, names in os.walk(root):
            below[:] = sorted(
                name
                for name in below
                if ext4.SAFE_NAME.fullmatch(name) and name != "__pycache__" and not Path(directory, name).is_symlink()
            )
            if Path(directory).is_relative_to(PROJECT):
                below.clear()
                continue
            files = [_source(f"{directory}/{name}", seen) for name in sorted(names)]
            kept = [file for file in files if file is not None]
            groups += [tuple(kept[at : at + PACKAGE_FILES]) for at in range(0, len(kept), PACKAGE_FILES)]
    if not any(groups):
        raise ValueError(f"no readable file below {', '.join(roots)}")
    return tuple(groups)


def choose(content_bytes: int, *, seed: int, roots: tuple[str, ...] = ROOTS) -> list[tuple[str, Source]]:
    """Choose real files of about `content_bytes` allocated bytes: (path in the image, source), sorted.

    Whole directories in an order drawn from `seed`; no single file takes more than a quarter of the whole.
    If the machine has too few files they come again below /srv/copy1, /srv/copy2 …, there to be edited.
    """
    groups = packages(roots)
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen: list[tuple[str, Source]] = []
    taken, round_ = 0, 0
    while taken < content_bytes:
        before = taken
        prefix = f"/srv/copy{round_}" if round_ else ""
        for index in order:
            for source in groups[index]:
                size = source.allocated_bytes
                if size <= min(content_bytes // 4, LARGEST_BYTES) and taken + size <= content_bytes:
                    chosen.append((prefix + source.path, source))
                    taken += size
            if taken >= content_bytes - ext4.FS_BLOCK_BYTES:
                break
        if taken >= content_bytes - ext4.FS_BLOCK_BYTES or taken == before:
            break
        round_ += 1
    return sorted(chosen)


def new_version(old: bytes, donor: bytes, *, seed: int) -> bytes:
    """A later version of a file: `old` with edits like those of a rebuild; differs from any non-empty `old`.

    Version numbers rise, text gets lines of `donor` (another real file), binaries get a splice of the donor's
    code that shifts what follows, and every couple of hundred bytes a 32-bit word moves by a small amount, as
    addresses do. So the content stays as compressible as real files are. Deterministic; memory is a few times
    the length of `old`.
    """
    random = np.random.default_rng(seed)
    if not old:
        return old
    edited = _VERSION.sub(_raise_version, old, count=20)
    if b"\0" not in old[:4096]:
        lines = edited.splitlines(keepends=True)
        others = donor[:65536].splitlines(keepends=True) or [b"\n"]
        for _ in range(1 + len(lines) // 100):
            at = int(random.integers(0, len(lines) + 1))
            lines[at:at] = others[int(random.integers(0, len(others))) :][:3]
        edited = b"".join(lines)
    else:
        keep = min(len(edited), 1024)  # headers stay where they are
        at = int(random.integers(keep, len(edited) + 1))
        start = int(random.integers(0, max(1, len(donor) - 4096)))
        splice = donor[start : start + int(random.integers(16, 4096))]
        edited = edited[:at] + splice + edited[at:]
        words = np.frombuffer(edited, dtype="<u4", count=len(edited) // 4).copy()
        moved = random.integers(keep // 4, max(keep // 4 + 1, len(words)), size=len(words) // 64)
        moved = np.unique(moved[moved < len(words)])
        words[moved] += random.choice(np.array([16, 32, 48, 256], dtype="<u4"), size=len(moved))
        edited = words.tobytes() + edited[len(words) * 4 :]
    return edited if edited != old else old + b"\n"


_VERSION = re.compile(rb"(?<=[0-9]\.)[0-8](?![0-9])")


def _raise_version(match: re.Match[bytes]) -> bytes:
    return bytes([match[0][0] + 1])


def read(path: str) -> bytes:
    """The bytes of a chosen file. Raises OSError; a file that went away since the listing is named in it."""
    return Path(path).read_bytes()


def directories(paths: Sequence[str]) -> list[str]:
    """Every directory needed for the paths, parents first, the root left out."""
    needed: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent not in ("", "/") and parent not in needed:
            needed.add(parent)
            parent = parent.rpartition("/")[0]
    return sorted(needed)


def _source(path: str, seen: set[tuple[int, int]]) -> Source | None:
    if not ext4.SAFE_NAME.fullmatch(path.rpartition("/")[2]) or path.endswith(".pyc"):
        return None
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = str(Path(path).readlink())
            return Source(path, 0, target) if re.fullmatch(r"[A-Za-z0-9._+@:,=%~/-]+", target) else None
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return None
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return None
    seen.add(identity)
    return Source(path, status.st_size, None)
