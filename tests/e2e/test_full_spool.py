"""A spool that has no room, for every reason that a file system can really have: the point is published all the same,
past the spool and as fast as the link, and `spool.full` says so once."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB, Rig, same, scribble
from rigs.host.media import ext4, fill, free_bytes, read_only, tmpfs
from warmspare.errors import NoRoomError, StoreError
from warmspare.store.contract import PART_BYTES
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.directory.file_upload import FileUpload
from warmspare.sync.publishing.spool_upload import SpooledUpload


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(6 * MIB))
    return rig


def holds(rig: Rig, place: Path) -> None:
    """Two syncs with the spool there are like any other, say once each that it is full, and leave nothing in it."""
    for seed in (2, 3):
        done = rig.sync("--spool", place / "spool")
        assert [event["directory"] for event in done.all("spool.full")] == [str(place / "spool")]
        assert not done.all("housekeeping.warning")
        rig.apply()
        assert same(rig.disk, rig.replica)
        scribble(rig.disk, random.Random(seed), pieces=40, most=200 * KIB)
    assert not [path for path in place.rglob("*") if path.is_file() and "packs" in path.parts]


def test_a_file_system_with_little_room(rig: Rig, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "m", "size=64m") as place:
        fill(place, left_bytes=MIB)
        holds(rig, place)


@pytest.mark.parametrize("left_bytes", [0, 64 * KIB])
def test_a_file_system_with_no_room_at_all(rig: Rig, tmp_path: Path, left_bytes: int) -> None:
    with ext4(tmp_path / "m", 16 * MIB) as place:
        fill(place, left_bytes=left_bytes)
        assert free_bytes(place) < left_bytes + 4 * KIB
        holds(rig, place)


@pytest.mark.parametrize("inodes", [2, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 7, 12, 14))])
def test_a_file_system_that_can_hold_no_more_files(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inodes: int
) -> None:
    """Not even for the spool's own directories, or for a pack: there is room otherwise, so each is tried."""
    monkeypatch.setattr("warmspare.sync.publishing.spool.FREE_BYTES", 0)
    with tmpfs(tmp_path / "m", f"size=64m,nr_inodes={inodes}") as place:
        holds(rig, place)


def filled_at(monkeypatch: pytest.MonkeyPatch, place: Path, left_bytes: int) -> None:
    """The file system fills up the moment a pack has been begun there."""
    begin = FileUpload._begin

    def begun(upload: FileUpload) -> None:
        begin(upload)
        if upload._path.startswith(str(place)):
            fill(place, left_bytes=left_bytes)

    monkeypatch.setattr(FileUpload, "_begin", begun)


def test_others_take_the_room_while_packs_are_written(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room enough when each began."""
    with ext4(tmp_path / "m", 400 * MIB) as place:
        filled_at(monkeypatch, place, 300 * KIB)
        holds(rig, place)


def test_a_spool_that_is_really_read_only(rig: Rig, tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    rig.sync("--spool", place / "spool")
    scribble(rig.disk, random.Random(4))
    with read_only(place):
        told = rig.sync("--spool", place / "spool", code=4)
        assert "Read-only file system" in told.stderr and "mount it writable" in told.stderr
    assert len(rig.objects("points")) == 1
    rig.sync("--spool", place / "spool")


# one pack


PACK = [random.Random(9).randbytes(PART_BYTES), random.Random(10).randbytes(PART_BYTES), b"the end"]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[[str], tuple[DirectoryStore, DirectoryStore]]]:
    """A spool's own store on a file system with these options, and the store that packs are for."""
    with contextlib.ExitStack() as stack:

        def make(options: str) -> tuple[DirectoryStore, DirectoryStore]:
            place = stack.enter_context(tmpfs(tmp_path / "m", options))
            return DirectoryStore(str(place / "s")), DirectoryStore(str(tmp_path / "store"))

        yield make


async def sent(medium: DirectoryStore, store: DirectoryStore) -> tuple[SpooledUpload, list[str]]:
    told: list[str] = []
    async with SpooledUpload("a/b/packs/1", medium, store, lambda: told.append("full")) as upload:
        for part in PACK:
            await upload.write(part)
    return upload, told


@pytest.mark.parametrize(
    "options",
    [
        "size=4m",  # for less than a part
        "size=12m",  # for one part and a half
        "size=16m",  # for all but the end
        "size=64m,nr_inodes=4",  # not for the file
        "size=64m,nr_inodes=9",  # for the file, but not for the directories of its name
    ],
)
async def test_a_pack_that_finds_no_room(
    stores: Callable[[str], tuple[DirectoryStore, DirectoryStore]], options: str
) -> None:
    """It goes to the store whole, and nothing of it stays."""
    medium, store = stores(options)
    upload, told = await sent(medium, store)
    assert told and not upload.waits
    data = await store.get("a/b/packs/1")
    assert data == b"".join(PACK) and upload.bytes == len(data)
    assert upload.crc32c == (await _crc(data))
    assert not [info async for info in medium.list("")] and not await medium.stale_uploads("")
    await medium.close()
    await store.close()


async def _crc(data: bytes) -> int:
    import crc32c

    return crc32c.crc32c(data)


async def test_a_pack_that_finds_room_waits(stores: Callable[[str], tuple[DirectoryStore, DirectoryStore]]) -> None:
    medium, store = stores("size=64m")
    upload, told = await sent(medium, store)
    assert upload.waits and not told and upload.crc32c == await _crc(b"".join(PACK))
    assert await medium.get("a/b/packs/1") == b"".join(PACK) and await store.head("a/b/packs/1") is None
    await medium.close()
    await store.close()


@pytest.mark.parametrize("failing", ["write", "fsync"])
async def test_a_quota_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Simulated: a real one needs a kernel with CONFIG_QFMT_V2 or CONFIG_TMPFS_QUOTA. It may be told as late as when
    the file is synced (NFS)."""
    medium, store = DirectoryStore(str(tmp_path / "m")), DirectoryStore(str(tmp_path / "store"))
    real = getattr(os, failing)
    calls = {"write": 0, "fsync": 0}

    def refuse(fd: int, *more: Any) -> Any:
        if str(tmp_path / "m") in str(Path(f"/proc/self/fd/{fd}").readlink()):
            calls[failing] += 1
            if failing == "fsync" or calls[failing] == 2:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return real(fd, *more)

    monkeypatch.setattr(os, failing, refuse)
    upload, told = await sent(medium, store)
    assert told and not upload.waits and await store.get("a/b/packs/1") == b"".join(PACK)
    await medium.close()
    await store.close()


async def test_what_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only want of room is nothing to worry about. Simulated: a medium that fails can't be had here."""
    medium, store = DirectoryStore(str(tmp_path / "m")), DirectoryStore(str(tmp_path / "store"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StoreError) as caught:
        await sent(medium, store)
    assert not isinstance(caught.value, NoRoomError)
    monkeypatch.undo()
    assert not [info async for info in store.list("")]
    await medium.close()
    await store.close()
