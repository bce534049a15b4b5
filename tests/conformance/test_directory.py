"""What DirectoryStore does beyond the contract: durability, odd file systems, errors in one sentence."""

# ruff: noqa: ASYNC220, ASYNC221

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from rigs.host.media import tmpfs
from rigs.paths import as_here
from warmspare.errors import ConfigError, StoreError
from warmspare.store.contract import PART_BYTES
from warmspare.store.directory import durable
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.opening import open_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the repository is to be."""
    return tmp_path / "repository"


@pytest_asyncio.fixture
async def store(root: Path) -> AsyncIterator[DirectoryStore]:
    """A store on it."""
    made = DirectoryStore(str(root))
    yield made
    await made.close()


def leftovers(root: Path) -> list[Path]:
    """Files of the temporary area but the lock."""
    return [path for path in (root / ".tmp~").rglob("*") if path.is_file() and path.name != "lock"]


async def test_reading_makes_nothing(store: DirectoryStore, root: Path) -> None:
    assert [info async for info in store.list("")] == []
    assert await store.head("x") is None
    await store.delete(["x"])
    assert not root.exists()
    assert await store.create("x", b"1")
    assert (root / "x").read_bytes() == b"1"
    assert root.stat().st_mode & 0o077 == 0  # disks of other people's machines lie here


async def test_no_temporary_file_stays(store: DirectoryStore, root: Path) -> None:
    await store.put("a/b/c", b"1")
    await store.create("a/b/c", b"2")
    await store.replace("l", b"1", etag=None)
    await store.replace("l", b"1", etag="wrong")
    await store.now()
    async with store.upload("a/u") as up:
        await up.write(b"1")
    assert leftovers(root) == []
    assert sorted(str(p.relative_to(root)) for p in (root / ".tmp~").rglob("*")) == [
        ".tmp~/lock",
        ".tmp~/uploads",
    ]
    await store.delete(["a/b/c", "a/u"])
    assert not (root / "a").exists()  # emptied directories go too


async def test_foreign_files_are_not_listed(store: DirectoryStore, root: Path) -> None:
    await store.put("vms/a/x", b"1")
    (root / "lost+found").mkdir()
    (root / "vms" / "a" / "x~").write_bytes(b"")
    (root / "vms" / "a" / "note to self").write_bytes(b"")
    os.mkfifo(root / "vms" / "a" / "fifo")
    assert [info.key async for info in store.list("")] == ["vms/a/x"]


async def test_writes_are_synced(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then directory: and no more of it than that where the directories are there."""
    await store.put("vms/a/first", b"1")
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()).removeprefix(str(root)))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)

    def kinds() -> list[str]:
        taken = ["file" if path.startswith("/.tmp~/uploads/") else path or "/" for path in synced]
        synced.clear()
        return taken

    await store.create("vms/a/second", b"1")
    assert kinds() == ["file", "/vms/a"]
    async with store.upload("vms/a/third") as up:
        await up.write(b"1")
    assert kinds() == ["file", "/vms/a"]
    await store.put("vms/a/fourth", b"1")
    assert kinds() == ["file", "/vms/a"]
    await store.create("vms/b/points/1", b"1")
    assert kinds() == ["file", "/vms", "/vms/b", "/vms/b/points"]  # new directories are made durable too
    lease = await store.replace("vms/a/lease.json", b"1", etag=None)
    assert lease is not None and await store.replace("vms/a/lease.json", b"2", etag=lease.etag)
    assert kinds() == ["file", "file"]
    await store.delete(["vms/a/second", "vms/a/third"])
    assert kinds() == ["/vms/a"]


async def test_tags_differ_between_equal_contents_within_a_clock_tick(store: DirectoryStore) -> None:
    info = await store.replace("l", b"same", etag=None)
    assert info is not None
    seen = {info.etag}
    for _ in range(50):
        info = await store.replace("l", b"same", etag=info.etag)
        assert info is not None
        seen.add(info.etag)
    assert len(seen) == 51


async def test_an_empty_lock_wait(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.replace("l", b"1", etag=None)
    monkeypatch.setattr(durable, "LOCK_WAIT_S", 0.2)
    with durable.locked(str(root / ".tmp~" / "lock")):
        with pytest.raises(StoreError, match="lock") as caught:
            await store.replace("l", b"2", etag=None)
        assert caught.value.retryable and str(root) in str(caught.value)
        assert await store.create("other", b"1")  # takes no lock
    assert await store.get("l") == b"1"


async def test_processes_race_for_one_key(store: DirectoryStore, root: Path) -> None:
    """create() by link(2) and replace() under the lock, between processes."""
    script = """
import asyncio, sys
from warmspare.store.directory.directory_store import DirectoryStore
async def main():
    store = DirectoryStore(sys.argv[1])
    created = [await store.create(f"k{n}", sys.argv[2].encode()) for n in range(20)]
    added = 0
    while added < 20:
        info = await store.head("counter")
        value = int(await store.get("counter")) if info else 0
        done = await store.replace("counter", str(value + 1).encode(), etag=info.etag if info else None)
        added += done is not None
    print(sum(created))
asyncio.run(main())
"""
    environment = as_here()
    root.mkdir()
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(root), f"p{n}"], stdout=subprocess.PIPE, env=environment)
        for n in range(4)
    ]
    outputs = [await asyncio.to_thread(process.communicate) for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert sum(int(output[0]) for output in outputs) == 20
    assert await store.get("counter") == b"80"


# -- odd file systems -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
async def test_without_hard_links(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    assert await store.create("x", b"1") is True
    assert await store.create("x", b"1") is True
    assert await store.create("x", b"2") is False
    results = await asyncio.gather(*(store.create("raced", str(n).encode()) for n in range(8)))
    assert sum(results) == 1 and await store.get("raced") == str(results.index(True)).encode()
    async with store.upload("u") as up:
        await up.write(b"1")
    with pytest.raises(StoreError, match="another object"):
        async with store.upload("u") as up:
            await up.write(b"2")
    assert await store.get("u") == b"1"
    assert leftovers(root) == []


async def test_without_hard_links_and_renameat2(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            pass

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    with pytest.raises(StoreError, match="neither hard links nor") as caught:
        await store.create("x", b"1")
    assert "ext4" in str(caught.value)
    assert await store.head("x") is None and leftovers(root) == []


async def test_a_link_whose_answer_was_lost(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file server carried the link out, and the client asks again: EEXIST, and ours."""
    real = os.link

    def link(old: str, new: str) -> None:
        real(old, new)
        raise FileExistsError(errno.EEXIST, "exists")

    monkeypatch.setattr(os, "link", link)
    assert await store.create("x", b"1") is True
    info = await store.replace("l", b"1", etag=None)
    assert info is not None and await store.get("l") == b"1"
    async with store.upload("u") as up:
        await up.write(b"1")
    assert await store.get("u") == b"1"


# -- errors -----------------------------------------------------------------------------------------------


async def writes(store: DirectoryStore) -> list[str]:
    """The sentences with which each kind of write fails."""

    async def up() -> None:
        async with store.upload("x") as upload:
            await upload.write(bytes(PART_BYTES))

    sentences = []
    for call in (
        lambda: store.put("x", b"1"),
        lambda: store.create("x", b"1"),
        lambda: store.replace("x", b"1", etag=None),
        store.now,
        up,
    ):
        with pytest.raises(StoreError) as caught:
            await call()
        sentences.append(str(caught.value))
    return sentences


async def test_root_is_a_file_or_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    for root in (tmp_path / "file", tmp_path / "file" / "repository"):
        store = DirectoryStore(str(root))
        for sentence in await writes(store):
            assert "is not a directory" in sentence and str(root) in sentence
        for read in (store.get("x"), store.head("x"), store.get_range("x", 0, 1), store.delete(["x"])):
            with pytest.raises(StoreError, match="not a directory"):
                await read
        with pytest.raises(StoreError, match="not a directory"):
            _ = [info async for info in store.list("")]
        await store.close()


async def test_missing_parent(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "unmounted" / "repository"))
    for sentence in await writes(store):
        assert "a directory of the path is missing" in sentence and "mount what belongs there" in sentence
        assert str(tmp_path / "unmounted" / "repository") in sentence
    assert not (tmp_path / "unmounted").exists()
    await store.close()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "no space is left"),
        (errno.EIO, "input/output error"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
async def test_what_the_file_system_refuses(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    await store.put("before", b"1")
    real = os.open

    def refuse(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code), path)
        return real(path, flags, *more, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        for sentence in await writes(store):
            assert says in sentence and str(root) in sentence and "; " in sentence
    assert [info.key async for info in store.list("")] == ["before"]
    assert leftovers(root) == []


@pytest.mark.parametrize("failing", ["write", "fsync", "link"])
async def test_a_full_disk_leaves_nothing(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    await store.put("before", b"1")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(StoreError, match="no space is left") as caught:
        await store.create("x", b"1")
    assert not caught.value.retryable
    with pytest.raises(StoreError, match="no space is left"):
        async with store.upload("y") as up:
            await up.write(bytes(PART_BYTES))
    monkeypatch.undo()
    assert [info.key async for info in store.list("")] == ["before"]
    assert leftovers(root) == []


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where this user may mount one."""
    with tmpfs(tmp_path / "tiny", "size=4m") as place:
        yield place


async def test_objects_are_removed_where_no_file_can_be_made(tmp_path: Path) -> None:
    """Not even the lock's: what is removed makes room."""
    with tmpfs(tmp_path / "full", "size=4m,nr_inodes=4") as place:
        (place / "repository" / "a").mkdir(parents=True)
        (place / "repository" / "a" / "b").write_bytes(b"1")
        with pytest.raises(OSError, match="No space left"):
            (place / "another").touch()
        store = DirectoryStore(str(place / "repository"))
        await store.delete(["a/b"])
        assert not [info async for info in store.list("")] and not (place / "repository" / "a").exists()
        await store.close()


async def test_a_really_full_disk(tiny: Path) -> None:
    store = DirectoryStore(str(tiny / "repository"))
    with pytest.raises(StoreError, match="no space is left"):
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES))
    assert [info async for info in store.list("")] == []
    assert await store.stale_uploads("") == []
    assert await store.create("x", bytes(1 << 20))  # the room is free again
    await store.close()


async def test_a_really_read_only_file_system(tiny: Path) -> None:
    store = DirectoryStore(str(tiny / "repository"))
    await store.put("before", b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    for sentence in await writes(store):
        assert "the file system is read-only" in sentence and str(tiny) in sentence
    assert await store.get("before") == b"1"
    assert [info.key async for info in store.list("")] == ["before"]
    await store.close()


# -- opening ----------------------------------------------------------------------------------------------


async def test_opening_a_directory_needs_no_aws_client(tmp_path: Path) -> None:
    script = (
        "import sys; from warmspare.store.opening import open_store; open_store(sys.argv[1]);"
        "print('aiobotocore' in sys.modules)"
    )
    environment = as_here()
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        env=environment,
        check=True,
        text=True,
    )
    assert run.stdout.split() == ["False"]


async def test_uris(tmp_path: Path) -> None:
    for uri in (f"{tmp_path}/r", f"file://{tmp_path}/r", f"file://localhost{tmp_path}/%72"):
        store = open_store(uri)
        assert store.uri == uri
        await store.put("x", uri.encode())
        assert (tmp_path / "r" / "x").read_bytes() == uri.encode()
        await store.close()
    for uri in ("s3://bucket/a/b", "s3://bucket/a/b/"):
        assert open_store(uri).uri == "s3://bucket/a/b"
    assert open_store("s3://bucket").uri == open_store("s3://bucket/").uri == "s3://bucket"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "empty"),
        ("ftp://host/x", "unknown scheme"),
        ("S3://bucket/x", "unknown scheme"),
        ("s3:///prefix", "names no bucket"),
        ("s3://", "names no bucket"),
        ("s3:/bucket", "unknown scheme"),
        ("s3:bucket/prefix", "colon"),
        ("b2:bucket", "colon"),
        ("remote:", "colon"),
        ("user@host:/backups", "colon"),
        ("s3:https:sEcReT", "colon"),
        ("s3://Buck?t/x", "not a valid bucket name"),
        ("s3://ab/x", "not a valid bucket name"),
        ("s3://a..b/x", "not a valid bucket name"),
        ("s3://bucket/a//b", "not a valid prefix"),
        ("s3://bucket/a b", "not a valid prefix"),
        ("s3://bucket/../x", "not a valid prefix"),
        ("s3://bucket/" + "x" * 301, "not a valid prefix"),
        ("file://host/x", "absolute path"),
        ("file://x", "absolute path"),
        ("file:///x?y", "no \\? or #"),
        ("s3://key:sEcReT@bucket/x", "a bucket and nothing else"),
    ],
)
def test_bad_uris_are_refused(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_store(uri)
    assert "sEcReT" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_bad_settings_are_refused() -> None:
    for url in ("host:9000", "ftp://host", "http://key:sEcReT@host:9000", "http://"):
        with pytest.raises(ConfigError, match="endpoint URL") as caught:
            open_store("s3://bucket/x", endpoint_url=url)
        assert "sEcReT" not in str(caught.value)
    with pytest.raises(ConfigError, match="concurrency"):
        open_store("/x", concurrency=0)


async def test_nothing_that_waits_for_the_disk_is_done_on_the_event_loop(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: the file system may be another machine's, which is gone."""
    by: list[tuple[str, bool]] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            by.append((name, threading.current_thread() is threading.main_thread()))
            return real(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    calls = {"open", "write", "fsync", "link", "replace", "unlink", "stat", "lstat", "scandir", "mkdir", "rmdir"}
    for name in calls:
        noted(name)
    async with store.upload("u/x") as up:
        for _ in range(8):
            await up.write(bytes(PART_BYTES))
    await store.put("a/x", b"1")
    await store.create("a/y", b"2")
    await store.replace("a/z", b"3", etag=None)
    await store.now()
    assert await store.head("a/x") and await store.get("a/x") == b"1" and await store.get_range("a/x", 0, 1) == b"1"
    assert [info.key async for info in store.list("a/")] == ["a/x", "a/y", "a/z"]
    assert await store.stale_uploads("a/") == []
    await store.delete(["a/x"])
    assert calls <= {name for name, _ in by}
    assert not any(on_the_loop for _, on_the_loop in by), [name for name, on_the_loop in by if on_the_loop]
