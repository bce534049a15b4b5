"""Owns every call of e2fsprogs on an ext4 inside an image. Mounts nothing, knows no content."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigs.images import gpt

FS_BLOCK_BYTES = 4096
SAFE_NAME = re.compile(r"[A-Za-z0-9._+@:,=%~-]+")
"""Names that debugfs reads back as they are written; others would need a quoting it does not have."""

EPOCH_S = 1_700_000_000
"""The clock of every image (E2FSPROGS_FAKE_TIME): real time would make each build another one."""


class ToolError(RuntimeError):
    """An e2fsprogs program is missing, failed or complained; the message is one sentence with the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory of the image: its path, inode, mode and size in bytes."""

    path: str
    inode: int
    mode: int
    size_bytes: int

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == 0o100000

    @property
    def is_directory(self) -> bool:
        return self.mode & 0o170000 == 0o040000


@dataclass(frozen=True, slots=True)
class FileMap:
    """Where the content of one file lies in the image.

    `blocks` has the image byte offset of each 4 KiB file block, int64, -1 for a hole.
    """

    path: str
    inode: int
    size_bytes: int
    blocks: NDArray[np.int64]


def tool(name: str) -> str:
    """The path of an e2fsprogs program, also from the sbin directories a plain user's PATH lacks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise ToolError(f"{name} is missing: install the Debian package e2fsprogs")
    return found


def make(path: str | os.PathLike[str], *, offset: int, length: int, seed: int, inodes: int) -> None:
    """Make an empty ext4 at `offset` of an existing raw file, `length` bytes long, deterministic for a seed.

    Both 4 KiB aligned. Inode tables and journal stay holes, as a lazily initialised real file system's do.
    Raises ToolError, OSError.
    """
    fs_id = uuid.uuid5(uuid.NAMESPACE_OID, f"warmspare-bench-{seed}")
    hash_seed = uuid.uuid5(uuid.NAMESPACE_OID, f"warmspare-bench-hash-{seed}")
    extended = [f"hash_seed={hash_seed}", "lazy_itable_init=1", "lazy_journal_init=1", "root_owner=0:0"]
    if offset:
        extended.append(f"offset={offset}")
    command = [tool("mke2fs"), "-q", "-F", "-t", "ext4", "-b", str(FS_BLOCK_BYTES), "-m", "1"]
    command += ["-U", str(fs_id), "-E", ",".join(extended), "-N", str(inodes)]
    _run([*command, str(path), str(length // FS_BLOCK_BYTES)], clock_s=EPOCH_S)


def run_script(path: str | os.PathLike[str], lines: Iterable[str], *, clock_s: int = EPOCH_S) -> str:
    """Run debugfs commands on the image, writing, in one process; returns what they printed.

    `clock_s` becomes the inode times and the superblock's write time. Raises ToolError on the first
    complaint: debugfs itself goes on after an error and exits with 0.
    """
    return _debugfs(path, lines, writing=True, clock_s=clock_s)


def query(path: str | os.PathLike[str], lines: Iterable[str]) -> str:
    """Run debugfs commands on the image opened read-only; returns what they printed. Raises ToolError."""
    return _debugfs(path, lines, writing=False, clock_s=EPOCH_S)


def check(path: str | os.PathLike[str]) -> None:
    """Run `e2fsck -fn`. Raises ToolError with its last lines unless the file system is entirely clean."""
    _run([tool("e2fsck"), "-fn", _device(path)], clock_s=EPOCH_S)


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Free bytes of the file system, by its superblock."""
    match = re.search(r"^Free blocks:\s+(\d+)", query(path, ["show_super_stats -h"]), re.MULTILINE)
    if match is None:
        raise ToolError(f"{path}: debugfs states no free block count")
    return int(match[1]) * FS_BLOCK_BYTES


def tree(path: str | os.PathLike[str], top: str = "/") -> list[Entry]:
    """Everything below the directory `top`, sorted by path, `.` and `..` and lost+found left out.

    Names that SAFE_NAME does not match are left out too: no script could name them.
    """
    found: list[Entry] = []
    level = [top.rstrip("/")]
    while level:
        sections = _sections(query(path, [f"ls -p {directory or '/'}" for directory in level]), "ls -p")
        if len(sections) != len(level):
            raise ToolError(f"{path}: asked for {len(level)} directories, debugfs listed {len(sections)}")
        below: list[str] = []
        for directory, lines in zip(level, sections, strict=True):
            for line in lines:
                entry = _parse_entry(directory, line)
                if entry is not None:
                    found.append(entry)
                    if entry.is_directory:
                        below.append(entry.path)
        level = below
    return sorted(found, key=lambda entry: entry.path)


def map_files(path: str | os.PathLike[str], entries: Sequence[Entry]) -> list[FileMap]:
    """The data blocks of regular files, in the order given; uninitialised extents count as holes."""
    start = gpt.find_partition(path)
    sections = _sections(query(path, [f"ex -l {entry.path}" for entry in entries]), "ex -l")
    if len(sections) != len(entries):
        raise ToolError(f"{path}: asked for {len(entries)} files, debugfs described {len(sections)}")
    maps = []
    for entry, lines in zip(entries, sections, strict=True):
        blocks = np.full(-(-entry.size_bytes // FS_BLOCK_BYTES), -1, dtype=np.int64)
        for line in lines:
            match = _EXTENT.match(line)
            if match is None or "Uninit" in line:
                continue
            logical, physical, count = int(match[1]), int(match[2]), int(match[3])
            run = np.arange(physical, physical + count, dtype=np.int64) * FS_BLOCK_BYTES + start
            blocks[logical : logical + count] = run[: max(0, len(blocks) - logical)]
        maps.append(FileMap(entry.path, entry.inode, entry.size_bytes, blocks))
    return maps


_EXTENT = re.compile(r"\s*\d+/\s*\d+\s+\d+/\s*\d+\s+(\d+)\s*-\s*\d+\s+(\d+)\s*-\s*\d+\s+(\d+)")


def _device(path: str | os.PathLike[str]) -> str:
    if "?" in str(path):
        raise ToolError(f"{path}: e2fsprogs reads a question mark in a path as options; use another name")
    offset = gpt.find_partition(path)
    return f"{path}?offset={offset}" if offset else str(path)


def _debugfs(path: str | os.PathLike[str], lines: Iterable[str], *, writing: bool, clock_s: int) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="warmspare-debugfs-", suffix=".txt") as script:
        for line in lines:
            script.write(line + "\n")
        script.flush()
        command = [tool("debugfs"), *(["-w"] if writing else []), "-f", script.name, _device(path)]
        done = _run(command, clock_s=clock_s)
    complaints = [line for line in done.stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    if complaints:
        raise ToolError(f"debugfs on {path}: {complaints[0]} ({len(complaints)} complaints)")
    return done.stdout


def _run(command: list[str], *, clock_s: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"E2FSPROGS_FAKE_TIME": str(clock_s), "LC_ALL": "C", "DEBUGFS_PAGER": "cat"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = " / ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise ToolError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done


def _sections(output: str, command: str) -> list[list[str]]:
    """Split a script's output at the echoes of one command."""
    sections: list[list[str]] = []
    for line in output.splitlines():
        if line.startswith("debugfs: "):
            if line.startswith(f"debugfs: {command} "):
                sections.append([])
        elif sections:
            sections[-1].append(line)
    return sections


def _parse_entry(directory: str, line: str) -> Entry | None:
    fields = line.split("/")
    # /inode/mode/uid/gid/name/size/ with leading and trailing separator; directories state no size
    if len(fields) != 8 or not fields[1].isdigit() or fields[1] == "0":
        return None
    name = fields[5]
    if name in (".", "..", "lost+found") or not SAFE_NAME.fullmatch(name):
        return None
    return Entry(f"{directory}/{name}", int(fields[1]), int(fields[2], 8), int(fields[6] or 0))
