"""Owns what changes an image between two syncs: upgrades, scattered writes, removed files. Builds none."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigs.images import corpus, ext4, pgstore

BATCH_BYTES = 64 << 20
"""File content staged on the host at a time."""

STATUS = "/var/lib/dpkg/status"
BLOCK_BYTES = 64 << 10


def package_upgrade(path: str | os.PathLike[str], *, megabytes: int, seed: int) -> int:
    """Upgrade packages inside the image as dpkg does; returns the bytes of file content written.

    A package is a directory's files. For each one, until about `megabytes` are written: new versions go
    beside the old ones as NAME.dpkg-new (new inodes, new blocks), then the old name is removed and the new
    file takes it; one file in thirty goes away and one in thirty is new. Last, dpkg's status file is
    rewritten. Contents are `corpus.new_version` of the image's own files. The old blocks keep their bytes,
    as on a real disk without discard. Deterministic for a seed and the image. Memory: a few times the
    largest file; the host holds 64 MiB of staged files in a temporary directory. Raises ValueError (too few
    files, no room), ext4.ToolError, OSError.
    """
    random = np.random.default_rng([seed, 1])
    clock_s = ext4.EPOCH_S + 86_400 * (seed % 1000 + 1)
    wanted = megabytes << 20
    if ext4.free_bytes(path) < wanted + wanted // 8 + (2 << 20):
        raise ValueError(f"{path}: an upgrade of {megabytes} MB needs that much free space in the file system")
    packages = _packages(path)
    chosen: list[ext4.Entry] = []
    total = 0
    for index in random.permutation(len(packages)):
        for entry in packages[index]:
            if entry.size_bytes <= min(corpus.LARGEST_BYTES, max(wanted // 2, 1 << 16)):
                chosen.append(entry)
                total += entry.size_bytes
        if total >= wanted:
            break
    if total < wanted * 3 // 4:
        raise ValueError(f"{path}: its files hold only {total >> 20} MB; can't upgrade {megabytes} MB")

    written = 0
    for batch in _batches(chosen):
        written += _upgrade_batch(path, batch, random, clock_s)
    written += _rewrite_status(path, seed, clock_s)
    return written


def scattered(path: str | os.PathLike[str], *, writes: int, seed: int, page_bytes: int = 8192) -> list[tuple[int, int]]:
    """Write pages in place at random aligned offsets inside the data of the image's files.

    Each write takes the page that is there, stamps eight bytes at its start (as a database stamps its log
    position) and replaces 100 bytes to the whole page, the length drawn evenly on a logarithmic scale, at a
    random place, with real bytes from another page of the image. So small and whole-page changes are alike
    common and what changed compresses about as well as the image's own content; random bytes would flatter
    nobody, but they would hide what compression does. `page_bytes` is a multiple of 4096; offsets are
    multiples of it, each used once. Returns (offset, page_bytes) in ascending order. Deterministic for a
    seed and the image. Raises ValueError (odd page size, fewer pages than writes), ext4.ToolError, OSError.
    """
    if page_bytes < ext4.FS_BLOCK_BYTES or page_bytes % ext4.FS_BLOCK_BYTES:
        raise ValueError(f"page_bytes must be a multiple of {ext4.FS_BLOCK_BYTES}; got {page_bytes}")
    random = np.random.default_rng([seed, 2])
    pages = _data_pages(path, page_bytes)
    if len(pages) < writes:
        raise ValueError(f"{path}: its files have {len(pages)} pages of {page_bytes} bytes, fewer than {writes} writes")
    targets = random.choice(pages, size=writes, replace=False)
    donors = random.choice(pages, size=writes)
    lengths = np.exp(random.uniform(np.log(100), np.log(page_bytes + 1), size=writes)).astype(np.int64)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number in range(writes):
            offset, length = int(targets[number]), min(int(lengths[number]), page_bytes)
            page = bytearray(os.pread(fd, page_bytes, offset))
            donor = os.pread(fd, page_bytes, int(donors[number]))
            at = int(random.integers(0, page_bytes - length + 1))
            page[at : at + length] = donor[at : at + length]
            stamp = int.from_bytes(page[:8], "little") + 1 + int(random.integers(0, 1 << 24))
            page[:8] = (stamp % (1 << 64)).to_bytes(8, "little")
            os.pwrite(fd, page, offset)
    finally:
        os.close(fd)
    return [(int(offset), page_bytes) for offset in np.sort(targets)]


def zero_files(path: str | os.PathLike[str], *, megabytes: float, seed: int) -> int:
    """Remove files and make their freed blocks read as zeros, as fstrim or zerofree does; returns the bytes.

    Half of it are files below 64 KiB, whose 4 KiB pages are overwritten with zeros one by one, mostly inside
    64 KiB blocks that keep other data; the other half are larger ones, whose runs are punched out so that
    they become holes (overwritten where the host can't punch). The database and dpkg's files stay.
    Deterministic for a seed and the image. Raises ValueError (too few files), ext4.ToolError, OSError.
    """
    random = np.random.default_rng([seed, 3])
    entries = [entry for package in _packages(path) for entry in package if entry.size_bytes]
    wanted = int(megabytes * (1 << 20))
    chosen: list[ext4.Entry] = []
    for small in (True, False):
        kind = [entry for entry in entries if (entry.size_bytes < BLOCK_BYTES) == small]
        taken = 0
        for index in random.permutation(len(kind)):
            if taken >= wanted // 2:
                break
            if small or kind[index].size_bytes <= max(wanted, BLOCK_BYTES * 2):
                chosen.append(kind[index])
                taken += kind[index].size_bytes
    if not chosen:
        raise ValueError(f"{path}: no file to remove")
    maps = ext4.map_files(path, chosen)
    clock_s = ext4.EPOCH_S + 86_400 * (seed % 1000 + 1)
    ext4.run_script(path, [f"rm {entry.path}" for entry in chosen], clock_s=clock_s)
    zeroed = 0
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for file in maps:
            punch = file.size_bytes >= BLOCK_BYTES
            for start, length in _runs(file.blocks):
                if not (punch and _punch(fd, start, length)):
                    os.pwrite(fd, bytes(length), start)
                zeroed += length
    finally:
        os.close(fd)
    return zeroed


def write_status(file: Path, names: list[str], revision: int) -> None:
    """Write a dpkg status file with a paragraph a directory, whose versions follow from `revision`."""
    with open(file, "w") as out:
        for number, name in enumerate(names):
            package = name.strip("/").replace("/", "-").replace("_", "-").replace("@", "-").lower()
            debian = 1 + (revision if number % 5 == revision % 5 else 0)
            version = f"{1 + number % 7}.{number % 23}-{debian}+deb12u1"
            out.write(
                f"Package: {package}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
                f"Installed-Size: {100 + number * 37 % 9000}\nMaintainer: Real Files <root@localhost>\n"
                f"Architecture: amd64\nVersion: {version}\nDescription: the files below {name}\n\n"
            )


def _upgrade_batch(
    path: str | os.PathLike[str], batch: list[ext4.Entry], random: np.random.Generator, clock_s: int
) -> int:
    with tempfile.TemporaryDirectory(prefix="warmspare-upgrade-", dir=Path(path).resolve().parent) as staging:
        ext4.query(path, [f"dump {entry.path} {staging}/old{index}" for index, entry in enumerate(batch)])
        unpack: list[str] = []
        configure: list[str] = []
        written, donor = 0, b""
        for index, entry in enumerate(batch):
            old_file = Path(staging, f"old{index}")
            old = old_file.read_bytes()
            old_file.unlink()
            directory, _, name = entry.path.rpartition("/")
            fate = int(random.integers(0, 30))
            if fate == 0:
                configure.append(f"rm {entry.path}")
                continue
            new = corpus.new_version(old, donor or old, seed=int(random.integers(0, 1 << 62)))
            donor = old
            new_file = Path(staging, f"new{index}")
            new_file.write_bytes(new)
            new_file.chmod(entry.mode & 0o777 | 0o400)
            written += len(new)
            unpack += [f"cd {directory}", f"write {new_file} {name}.dpkg-new"]
            if fate == 1:  # a further file of the new version; the old one stays as it was
                final = f"{directory}/{name}.{1000 + index}.{clock_s % 9973}"
            else:
                final = entry.path
                configure.append(f"rm {entry.path}")
            configure += [f"ln {entry.path}.dpkg-new {final}", f"unlink {entry.path}.dpkg-new"]
        ext4.run_script(path, [*unpack, *configure], clock_s=clock_s)
    return written


def _rewrite_status(path: str | os.PathLike[str], seed: int, clock_s: int) -> int:
    entries = ext4.tree(path)
    if not any(entry.path == STATUS for entry in entries):
        return 0
    with tempfile.TemporaryDirectory(prefix="warmspare-upgrade-") as staging:
        file = Path(staging, "status")
        write_status(file, sorted({entry.path.rpartition("/")[0] for entry in entries if entry.is_file}), seed)
        rename = [f"rm {STATUS}", f"ln {STATUS}-new {STATUS}", f"unlink {STATUS}-new"]
        ext4.run_script(path, [f"cd {STATUS.rpartition('/')[0]}", f"write {file} status-new", *rename], clock_s=clock_s)
        return file.stat().st_size


def _packages(path: str | os.PathLike[str]) -> list[list[ext4.Entry]]:
    """The image's regular files outside database and dpkg, by directory, in order."""
    groups: dict[str, list[ext4.Entry]] = {}
    for entry in ext4.tree(path):
        if entry.is_file and not entry.path.startswith((pgstore.PGDATA + "/", "/var/lib/dpkg/")):
            groups.setdefault(entry.path.rpartition("/")[0], []).append(entry)
    cut = corpus.PACKAGE_FILES
    return [group[at : at + cut] for _, group in sorted(groups.items()) for at in range(0, len(group), cut)]


def _batches(entries: list[ext4.Entry]) -> Iterator[list[ext4.Entry]]:
    batch: list[ext4.Entry] = []
    size = 0
    for entry in entries:
        if batch and size + entry.size_bytes > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size_bytes
    if batch:
        yield batch


def _data_pages(path: str | os.PathLike[str], page_bytes: int) -> NDArray[np.int64]:
    """Image offsets, ascending, of the aligned pages that lie wholly in data blocks of regular files."""
    entries = [entry for entry in ext4.tree(path) if entry.is_file and entry.size_bytes >= page_bytes]
    maps = ext4.map_files(path, entries)
    if not maps:
        return np.empty(0, dtype=np.int64)
    blocks = np.concatenate([file.blocks[: file.size_bytes // ext4.FS_BLOCK_BYTES] for file in maps])
    pages, counts = np.unique(blocks[blocks >= 0] // page_bytes, return_counts=True)
    whole: NDArray[np.int64] = pages[counts == page_bytes // ext4.FS_BLOCK_BYTES] * page_bytes
    return whole


def _runs(blocks: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Contiguous (offset, length) runs of a file's blocks in the image, holes left out."""
    present = blocks[blocks >= 0]
    if not len(present):
        return
    breaks = np.flatnonzero(np.diff(present) != ext4.FS_BLOCK_BYTES) + 1
    for run in np.split(present, breaks):
        yield int(run[0]), len(run) * ext4.FS_BLOCK_BYTES


def _punch(fd: int, start: int, length: int) -> bool:
    """Punch a hole, keeping the size; False where C library or host file system can't."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return False
    keep_size_and_punch = 0x01 | 0x02
    done: int = fallocate(fd, keep_size_and_punch, ctypes.c_int64(start), ctypes.c_int64(length))
    return done == 0
