"""Owns access to a cluster's files by 8 KiB page, on the host or in an image. Knows no page's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from rigs.images import ext4

PGDATA = "/var/lib/postgresql/15/main"
PAGE_BYTES = 8192


class PageStore(Protocol):
    """Where a cluster's files lie. A page is 8 KiB; names are relative to PGDATA."""

    def names(self, directory: str) -> list[str]: ...
    def pages(self, name: str) -> int: ...
    def read(self, name: str, page: int) -> bytearray: ...
    def write(self, name: str, page: int, data: bytes) -> None: ...
    def rename(self, old: str, new: str) -> None: ...


class HostStore:
    """A cluster in a host directory, for building one. Files are opened for each access."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self, directory: str) -> list[str]:
        return sorted(f"{directory}/{path.name}" for path in (self._directory / directory).iterdir())

    def pages(self, name: str) -> int:
        return (self._directory / name).stat().st_size // PAGE_BYTES

    def read(self, name: str, page: int) -> bytearray:
        with open(self._directory / name, "rb") as file:
            file.seek(page * PAGE_BYTES)
            return bytearray(file.read(PAGE_BYTES))

    def write(self, name: str, page: int, data: bytes) -> None:
        with open(self._directory / name, "r+b") as file:
            file.seek(page * PAGE_BYTES)
            file.write(data)

    def rename(self, old: str, new: str) -> None:
        (self._directory / old).rename(self._directory / new)


class ImageStore:
    """A cluster inside an ext4 image, written on the blocks its files already have.

    After `close`, `finish` does through debugfs what is not file content: renames and modification times.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        entries = [entry for entry in ext4.tree(path, PGDATA) if entry.is_file]
        if not entries:
            raise ValueError(f"{path} has no database below {PGDATA}: build the image with database_mb above 0")
        self._path = path
        self._files = {file.path[len(PGDATA) + 1 :]: file for file in ext4.map_files(path, entries)}
        self._touched: set[str] = set()
        self._renames: list[tuple[str, str]] = []
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def names(self, directory: str) -> list[str]:
        return sorted(name for name in self._files if name.startswith(directory + "/"))

    def pages(self, name: str) -> int:
        return self._files[name].size_bytes // PAGE_BYTES

    def read(self, name: str, page: int) -> bytearray:
        data = bytearray()
        for offset in self._offsets(name, page):
            hole = offset < 0
            data += bytes(ext4.FS_BLOCK_BYTES) if hole else os.pread(self._fd, ext4.FS_BLOCK_BYTES, offset)
        return data

    def write(self, name: str, page: int, data: bytes) -> None:
        self._touched.add(name)
        for index, offset in enumerate(self._offsets(name, page)):
            part = data[index * ext4.FS_BLOCK_BYTES : (index + 1) * ext4.FS_BLOCK_BYTES]
            if offset >= 0:
                os.pwrite(self._fd, part, offset)
            elif any(part):
                raise ValueError(f"{name} in {self._path}: page {page} is a hole and can't be written in place")

    def rename(self, old: str, new: str) -> None:
        self._renames.append((old, new))

    def close(self) -> None:
        os.close(self._fd)

    def finish(self, *, clock_s: int) -> None:
        lines = [f"set_inode_field <{self._files[name].inode}> mtime @{clock_s}" for name in sorted(self._touched)]
        for old, new in self._renames:
            lines += [f"ln {PGDATA}/{old} {PGDATA}/{new}", f"unlink {PGDATA}/{old}"]
        ext4.run_script(self._path, lines, clock_s=clock_s)

    def _offsets(self, name: str, page: int) -> list[int]:
        per_page = PAGE_BYTES // ext4.FS_BLOCK_BYTES
        offsets: list[int] = self._files[name].blocks[page * per_page : (page + 1) * per_page].tolist()
        return offsets
