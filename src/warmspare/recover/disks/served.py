"""Read-only files whose bytes come from coroutines, for programs that want files or descriptors; owns their mount.

The kernel asks over FUSE (`fuse.py`) and is answered on the event loop, so nobody may read such a file on the loop's
own thread: it would wait for itself. `fusermount3` mounts, for root and for others, and unmounts as soon as a socket is
closed that this process holds: so also when it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from warmspare.debts import holding, owe
from warmspare.errors import ConfigError, RecoverError
from warmspare.recover.disks import fuse, programs
from warmspare.state.local_files import local_io
from warmspare.threads import finish, in_thread

DEVICE = Path("/dev/fuse")
WHAT = "the mount"
READS_UNDER_WAY = 8  # of up to 128 KiB; more wait in the kernel, or as a few bytes here
MOUNT_S = 30.0
HELD = "the mount of a restore point"
ENDING_S = 10.0  # for mounting and unmounting where the process was asked to end
_FD = struct.Struct("=i")
_OPTIONS = "ro,nosuid,nodev,noexec,fsname=warmspare,subtype=warmspare,auto_unmount"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file. read: gives exactly the bytes of (offset, length), which lie inside of it; UnreadableError where these
    can't be had and others may. name: of the file, where a person sees it."""

    size_bytes: int
    read: Callable[[int, int], Awaitable[bytes]]
    name: str = ""


class UnmountedError(RecoverError):
    """Somebody else unmounted it."""


class UnreadableError(Exception):
    """Some bytes can't be had: whoever asked for them is told so, and nothing else ends."""


async def served(files: Sequence[ServedFile], work: Callable[[list[int]], Awaitable[T]]) -> T:
    """The result of `work`, which is given a descriptor of each file, open for reading as long as it runs.

    The first error of a `read` ends the work, whatever it has come to, and is raised in its place; its reader sees EIO.
    ConfigError where nothing can be mounted. On every way out, a cancel too, readers are let go at once, the work is
    ended and awaited, and nothing stays mounted.
    """
    async with _opened(files) as (connection, fds):
        working = asyncio.ensure_future(work(fds))
        both: set[asyncio.Future[Any]] = {working, connection.failed}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failure = connection.failure  # before all else: what is under way fails from here on
            connection.close()  # before the work is ended: a program that waits for bytes can't be killed
            working.cancel()
            await finish(asyncio.wait({working}))
            said = None if working.cancelled() else working.exception()
        if failure is not None:
            raise failure from said
        return working.result()


class FuseConnection:
    """Answers the kernel. fd: of the device, its own from here on. failed: done when a read failed, by which it is told
    before its reader is, or when somebody unmounted it (UnmountedError). named: whether files have their names, or just
    numbers. made_s: their date, Unix seconds."""

    def __init__(self, fd: int, files: Sequence[ServedFile], *, named: bool = False, made_s: int = 0) -> None:
        self._fd, self._files = fd, files
        owner = (os.geteuid(), os.getegid())
        names = [file.name for file in files] if named else None
        self._protocol = fuse.FuseFiles([file.size_bytes for file in files], owner, READS_UNDER_WAY, names, made_s)
        self._asked_for: dict[int, asyncio.Task[None]] = {}  # reads under way, by the number of the request
        self._unwanted: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(READS_UNDER_WAY)
        self._reading: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._asked)

    def close(self) -> None:
        """Let go: every reader that waits is told so by the kernel."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        for task in self._reading:
            task.cancel()

    @property
    def failure(self) -> BaseException | None:
        """The first error of a read; None if there was none."""
        return self.failed.exception() if self.failed.done() else None

    async def ended(self) -> None:
        """Wait for what was being read when it was closed."""
        while self._reading:
            await finish(asyncio.wait(set(self._reading)))  # the set itself may be empty when it comes to that

    def _asked(self) -> None:
        try:
            data = os.read(self._fd, fuse.MOST_REQUEST_BYTES)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT):  # the last: its asker went away
                return
            gone = error.errno == errno.ENODEV
            what = "somebody unmounted the restore point" if gone else f"the kernel's FUSE failed: {error.strerror}"
            kind = UnmountedError if gone else RecoverError
            self._fail(kind(what, where=str(DEVICE), hint="run this again", retryable=True))
            self.close()
            return
        request = fuse.parse(data)
        answer = self._protocol.answer(request)
        if isinstance(answer, fuse.Read):
            task = self._loop.create_task(self._read(answer))
            self._reading.add(task)
            self._asked_for[answer.unique] = task
            task.add_done_callback(partial(self._over, answer.unique))
        elif isinstance(answer, fuse.Interrupt):
            if unwanted := self._asked_for.get(answer.unique):
                self._unwanted.add(answer.unique)
                unwanted.cancel()
        elif answer is not None:
            self._reply(answer)

    def _over(self, unique: int, task: asyncio.Task[None]) -> None:
        """Also of one that was cancelled before it began."""
        self._reading.discard(task)
        del self._asked_for[unique]
        if unique in self._unwanted:
            self._unwanted.discard(unique)
            if task.cancelled():
                self._reply(fuse.reply(unique, error=errno.EINTR))

    async def _read(self, wanted: fuse.Read) -> None:
        try:
            async with self._slots:
                data = await self._files[wanted.number].read(wanted.offset, wanted.length)
        except UnreadableError:
            self._reply(fuse.reply(wanted.unique, error=errno.EIO))
        except Exception as error:
            self._fail(error)
            self._reply(fuse.reply(wanted.unique, error=errno.EIO))
        else:
            self._reply(fuse.reply(wanted.unique, data))

    def _fail(self, error: Exception) -> None:
        # Before the reader is answered: whatever it makes of the error comes after.
        if not self.failed.done():
            self.failed.set_exception(error)

    def _reply(self, pieces: list[bytes | memoryview]) -> None:
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):  # its asker went away
                os.writev(self._fd, pieces)


@contextlib.asynccontextmanager
async def _opened(files: Sequence[ServedFile]) -> AsyncIterator[tuple[FuseConnection, list[int]]]:
    """The files, mounted and open."""
    with local_io(WHAT, tempfile.gettempdir()):
        folder = Path(tempfile.mkdtemp(prefix="warmspare-"))  # of mode 0700
    try:
        hint = "run where FUSE may be used, or apply a replica and give --replica"
        async with mounted_device(folder, hint=hint) as (device, unmount):
            connection = FuseConnection(device, files)
            fds: list[int] = []

            async def let_go() -> Path | None:
                connection.close()
                await unmount()
                try:
                    folder.rmdir()
                except FileNotFoundError:  # the block's own end was as quick
                    return None
                except OSError:
                    return folder
                return None

            owed = owe(HELD, ENDING_S, let_go)
            try:
                for number in range(len(files)):
                    await in_thread(_open, folder / str(number), fds)
                yield connection, fds
            finally:
                connection.close()
                try:
                    await connection.ended()
                finally:
                    for fd in fds:
                        os.close(fd)
                    owed.drop()
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _open(path: Path, fds: list[int]) -> None:
    """In a worker thread; its descriptor is added to `fds`, also if nobody waits for it any more. The second close is
    asked about, answered with ENOSYS and never asked about again: one that a child does between its birth and its
    program would be waited for by the thread that answers."""
    with local_io(WHAT, path):
        fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        os.close(os.dup(fds[-1]))


@contextlib.asynccontextmanager
async def mounted_device(folder: Path, *, hint: str) -> AsyncIterator[tuple[int, Callable[[], Awaitable[None]]]]:
    """The kernel's end of a mount at `folder`, which the block takes over and closes; unmounted when it ends, or
    by what is given beside, also where somebody is in it. ConfigError, with that hint, where nothing can be mounted."""
    ours, theirs = socket.socketpair()
    helpers: list[asyncio.subprocess.Process] = []
    device: list[int] = []

    async def mount() -> None:
        with theirs:
            ours.settimeout(MOUNT_S)
            # Not one of `children`: killed, it leaves the mount. It ends by itself when its socket closes.
            started = asyncio.create_subprocess_exec(
                programs.found("fusermount3"),
                "-o",
                _OPTIONS,
                "--",
                str(folder),
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "_FUSE_COMMFD": str(theirs.fileno())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            helpers.append(await started)
        await in_thread(_receive, ours, device)

    async def unmount() -> None:
        ours.close()
        for helper in helpers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOUNT_S):
                    await helper.wait()

    try:
        with holding(HELD, ENDING_S):
            # Killed, or without anybody to give the descriptor to, it would end and leave the mount.
            await finish(mount())
        if not device:
            said = await _said(*helpers)
            raise ConfigError(
                f"a restore point can't be shown as files: {said}",
                where=str(DEVICE),
                hint=hint,
            )
        yield device.pop(), unmount
    finally:
        for fd in device:  # cancelled meanwhile
            os.close(fd)
        with holding(HELD, ENDING_S):
            await finish(unmount())


async def _said(helper: asyncio.subprocess.Process) -> str:
    """Why fusermount3 did not mount; one that hangs is killed."""
    assert helper.stderr
    try:
        async with asyncio.timeout(MOUNT_S):
            said = (await helper.stderr.read(1 << 12)).decode(errors="replace").strip().splitlines()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            helper.kill()
        return "fusermount3 does not answer"
    return said[-1] if said else "fusermount3 says nothing"


def _receive(end: socket.socket, device: list[int]) -> None:
    """In a worker thread: add the descriptor that fusermount3 passes on; none if it ended without one.

    Not by socket.recv_fds, which drops the flag in Python 3.11: a program that inherited the descriptor would keep the
    mount alive when this process is killed, and wait for bytes for ever.
    """
    try:
        _, passed, _, _ = end.recvmsg(1, socket.CMSG_SPACE(_FD.size), socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        return
    device += [_FD.unpack(data[: _FD.size])[0] for _, kind, data in passed if kind == socket.SCM_RIGHTS]
