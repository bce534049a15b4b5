"""How many bytes does `files get` fetch for a file, over a store that answers after 30 ms?

A file of 100 MB that doesn't compress, out of a restore point in a repository of 5 GB, for each file system. Compared
with the file's own bytes, which are the least that can be fetched. Linux reads its own file systems where this host has
what its throw-away machine is made of, or with --kernel where Debian's packages are; else GRUB reads all of them.
"""

from __future__ import annotations

import asyncio
import filecmp
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

# isort: split
import bootdisk
import warmspare
from rigs.guests import vmdisks
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.store import opening
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import Store

LATENCY_S, FILE_BYTES, OTHER_BYTES = 0.030, 100_000_000, 128 << 20
GOAL = 1.3


class SlowStore(PassingStore):
    """Answers what is read of it after a while."""

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        await asyncio.sleep(LATENCY_S)
        return await super().get(key, max_bytes=max_bytes)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        await asyncio.sleep(LATENCY_S)
        return await super().get_range(key, offset, length)


def ext4(disk: Path, tree: Path) -> None:
    bootdisk.run("mkfs.ext4", "-q", "-F", "-d", tree, disk)


def btrfs(disk: Path, tree: Path) -> None:
    bootdisk.run("mkfs.btrfs", "-q", "--rootdir", tree, disk)


def xfs(disk: Path, tree: Path) -> None:
    lines = [f"{path.name} ---644 0 0 {path}" for path in sorted(tree.iterdir())]
    proto = disk.with_suffix(".proto")
    proto.write_text("\n".join(["/", "0 0", "d--755 0 0", *lines, "$", ""]))
    bootdisk.run("mkfs.xfs", "-q", "-p", proto, disk)


def ntfs(disk: Path, tree: Path) -> None:
    bootdisk.run("mkntfs", "-q", "-F", "-Q", "-s", 512, "-p", 0, "-H", 255, "-S", 63, disk)
    for path in sorted(tree.iterdir()):
        bootdisk.run("ntfscp", "-q", disk, path, path.name)


def fat(disk: Path, tree: Path) -> None:
    bootdisk.run("mkfs.vfat", "-F", "32", disk)
    bootdisk.run("mcopy", "-i", disk, *sorted(tree.iterdir()), "::")


KINDS: dict[str, Callable[[Path, Path], None]] = {"ext4": ext4, "xfs": xfs, "btrfs": btrfs, "ntfs": ntfs, "fat": fat}


def tree_of(home: Path, mb: int) -> Path:
    """Files of random bytes: the one that is asked for in the midst of others."""
    tree = home / "tree"
    tree.mkdir()
    for number in range(max((mb << 20) // OTHER_BYTES - 1, 1)):
        name, size = (f"other{number}", OTHER_BYTES) if number != 3 else ("wanted", FILE_BYTES)
        with (tree / name).open("wb") as file:
            for _ in range(0, size, 1 << 20):
                file.write(os.urandom(1 << 20))
            file.truncate(size)
    return tree


async def measured(home: Path, kind: str, tree: Path, mb: int) -> dict[str, Any]:
    """One file system, synced and read."""
    disk, repo, to = home / f"{kind}.raw", home / f"{kind}-repo", home / f"{kind}-to"
    with disk.open("wb") as file:
        file.truncate((mb << 20) * 11 // 10 + (300 << 20))
    KINDS[kind](disk, tree)
    engine, place = warmspare.Engine(state=home / "state"), warmspare.RepositoryPlace(str(repo))
    given = warmspare.GivenDisksOf(vm=kind, disks=(warmspare.NamedDisk(str(disk)),))
    await engine.run(warmspare.InitRequest(repositories=(place,)))
    await engine.run(warmspare.SyncRequest(disks=given, repository=place, new=True))
    choice = warmspare.DisksChoice(vm=kind, repository=place)
    read_by: list[str] = []

    def heard(event: Any) -> None:
        if getattr(event, "message", "") and type(event).__name__ == "FileNoted":
            read_by.append(event.message.partition(" reads")[0])

    request = warmspare.FilesGetRequest(disks=choice, paths=("disk1:/wanted",), to=to)
    began = time.perf_counter()
    done = await engine.run(request, on_event=heard)
    took_s = time.perf_counter() - began
    same = filecmp.cmp(to / "wanted", tree / "wanted", shallow=False)
    for path in (repo, to):
        shutil.rmtree(path)
    disk.unlink()
    if not same or done.failed:
        raise harness.BenchError(f"{kind}: the file's bytes are others")
    return {
        "file_system": kind,
        "read_by": read_by[0] if read_by else "GRUB" if kind == "fat" else "Linux",
        "fetched_bytes": done.bytes_fetched,
        "ratio": round(done.bytes_fetched / FILE_BYTES, 3),
        "wall_s": round(took_s, 1),
        "goal": GOAL,
    }


def main() -> None:
    parser = harness.parser(__doc__, runs=1, mb=5120)
    parser.add_argument("--only", choices=sorted(KINDS), action="append", help="these file systems alone")
    parser.add_argument("--kernel", action="store_true", help="Linux of Debian's packages, where this host has none")
    arguments = parser.parse_args()
    open_store = opening.open_store

    def slow(*words: Any, **more: Any) -> Store:
        return SlowStore(open_store(*words, **more))

    opening.open_store = slow  # type: ignore[assignment]
    if arguments.kernel:
        have = vmdisks.have()
        parts.found = lambda kernels=None: have
    with harness.scratch(arguments, "files") as home:
        tree = tree_of(home, arguments.mb)
        found = [asyncio.run(measured(home, kind, tree, arguments.mb)) for kind in arguments.only or KINDS]
    for one in found:
        print(json.dumps(one) if arguments.json else "  ".join(f"{name} {value}" for name, value in one.items()))


if __name__ == "__main__":
    harness.main(main)
