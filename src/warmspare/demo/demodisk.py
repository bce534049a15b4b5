"""The demo's disk: a real ext4 made of this machine's files, and real changes to it. Mounts nothing, needs no root."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmspare import children
from warmspare.errors import ConfigError
from warmspare.model.extents import Extents, normalise

SEED = 2014
MIN_FILE_BYTES, MAX_FILE_BYTES = 2 << 10, 8 << 20
PIECE_BYTES = 4 << 20
PAGE_BYTES = 8 << 10
BLOCK_BYTES = 4 << 10  # of the file system
SLACK = 1.35  # of the file system over its content


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of e2fsprogs."""

    mke2fs: str
    debugfs: str
    e2fsck: str


def tools() -> Tools:
    """Where they are; ConfigError if they are not installed. They often stand outside a user's PATH."""
    names = ("mke2fs", "debugfs", "e2fsck")
    found = {name: shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ConfigError(f"the demo needs {' and '.join(missing)}", hint="install the package e2fsprogs")
    return Tools(**{name: str(path) for name, path in found.items()})


def _run(*command: str, data: str | None = None) -> str:
    code, output = _ended(*command, data=data)
    if code != 0:
        raise ConfigError(f"{Path(command[0]).name} failed: {output.strip()[-300:]}")
    return output


def _ended(*command: str, data: str | None = None) -> tuple[int, str]:
    """Run to its end: exit code and output; what it complains of, where it fails."""
    child = children.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, complaint = child.communicate(None if data is None else data.encode())
    finally:
        children.forget(child)
    return child.returncode, ((child.returncode and complaint) or out).decode(errors="replace")


def _files() -> Iterator[Path]:
    """Real files of this machine, in an order that is the same each time."""
    for root in (sysconfig.get_paths()["stdlib"], "/usr/share", "/usr/lib"):
        for path in sorted(Path(root).rglob("*")):
            if path.is_file() and not path.is_symlink() and MIN_FILE_BYTES <= path.stat().st_size <= MAX_FILE_BYTES:
                yield path


def build(tools: Tools, home: Path, disk: Path, content_bytes: int, database_bytes: int) -> None:
    """Make the disk: a directory tree of about content_bytes, and one file that plays the database."""
    tree = home / "tree"
    tree.mkdir()
    taken = number = 0
    for path in _files():
        folder = tree / f"d{number // 200:03d}"
        folder.mkdir(exist_ok=True)
        try:
            shutil.copyfile(path, folder / f"f{number:05d}")
        except OSError:
            continue  # not readable by this user
        taken += path.stat().st_size
        number += 1
        if taken >= content_bytes:
            break
    rows = np.random.default_rng(SEED).integers(0, 64, size=database_bytes, dtype=np.uint8)
    (tree / "database").write_bytes(rows.tobytes())
    size = int((taken + database_bytes) * SLACK) // (1 << 20) * (1 << 20)
    _run(tools.mke2fs, "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-d", str(tree), str(disk), f"{size >> 10}k")
    shutil.rmtree(tree)


def _listing(tools: Tools, disk: Path) -> list[str]:
    out: list[str] = []
    for line in _run(tools.debugfs, "-R", "ls -p /", str(disk)).splitlines():
        name = line.split("/")[5] if line.count("/") >= 6 else ""
        if name.startswith("d") and name[1:].isdigit():
            for inner in _run(tools.debugfs, "-R", f"ls -p /{name}", str(disk)).splitlines():
                file = inner.split("/")[5] if inner.count("/") >= 6 else ""
                if file.startswith("f"):
                    out.append(f"/{name}/{file}")
    return sorted(out)


def upgrade(tools: Tools, home: Path, disk: Path) -> None:
    """Replace every twentieth file by a new version: a few lines differ, all of it is written anew."""
    rng = random.Random(SEED)  # noqa: S311 (a seed, not a secret)
    commands: list[str] = []
    scratch = home / "upgrade"
    scratch.mkdir()
    for number, name in enumerate(_listing(tools, disk)[::20]):
        old, new = scratch / f"{number}.old", scratch / f"{number}.new"
        _run(tools.debugfs, "-R", f"dump {name} {old}", str(disk))
        data = bytearray(old.read_bytes())
        for _ in range(1 + len(data) // 20000):
            at = rng.randrange(max(1, len(data) - 40))
            data[at : at + 40] = b"%040d" % rng.randrange(10**39)
        new.write_bytes(data)
        commands += [f"rm {name}", f"write {new} {name}"]
    _run(tools.debugfs, "-w", "-f", "-", str(disk), data="\n".join(commands) + "\n")
    shutil.rmtree(scratch)


def database(tools: Tools, disk: Path, *, writes: int) -> None:
    """Rewrite rows in random 8 KiB pages of the database file, in place, as its server would."""
    blocks = [int(word) for word in _run(tools.debugfs, "-R", "blocks /database", str(disk)).split()]
    per_page = PAGE_BYTES // BLOCK_BYTES
    rng = random.Random(SEED + 1)  # noqa: S311
    with disk.open("r+b") as file:
        for first in rng.sample(range(0, len(blocks) - per_page, per_page), writes):
            for block in blocks[first : first + per_page]:
                file.seek(block * BLOCK_BYTES + rng.randrange(3000))
                file.write(rng.randbytes(400))


def remove(tools: Tools, disk: Path) -> None:
    """Remove every thirtieth file and zero the blocks it had, as a guest's trim does."""
    commands: list[str] = []
    freed: list[int] = []
    for name in _listing(tools, disk)[1::30]:
        freed += [int(word) for word in _run(tools.debugfs, "-R", f"blocks {name}", str(disk)).split()]
        commands.append(f"rm {name}")
    _run(tools.debugfs, "-w", "-f", "-", str(disk), data="\n".join(commands) + "\n")
    with disk.open("r+b") as file:
        for block in freed:
            file.seek(block * BLOCK_BYTES)
            file.write(bytes(BLOCK_BYTES))


def check(tools: Tools, replica: Path) -> str:
    """What e2fsck says of the replica's file system."""
    code, _ = _ended(tools.e2fsck, "-fn", str(replica))
    return "e2fsck finds its file system clean" if code == 0 else "e2fsck finds errors in its file system"


def copy(source: Path, target: Path) -> None:
    """A sparse copy."""
    _run("cp", "--sparse=always", str(source), str(target))


def tracked(before: Path, after: Path, unit: int) -> Extents:
    """What a tracker of that granularity would report between two states of a disk."""
    starts: list[int] = []
    with before.open("rb") as old, after.open("rb") as new:
        at = 0
        while True:
            left, right = old.read(PIECE_BYTES), new.read(PIECE_BYTES)
            if not right:
                break
            if left != right:
                pieces = range(0, len(right), unit)
                changed = (i for i in pieces if left[i : i + unit] != right[i : i + unit])
                starts += [at + inner for inner in changed]
            at += len(right)
        size = new.tell()
    offsets = np.array(starts, dtype=np.int64)
    return normalise(offsets, np.minimum(unit, size - offsets))


def digest(path: Path) -> str:
    """SHA-256 (hex) of all its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
