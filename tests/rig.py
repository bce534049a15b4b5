"""A small world for end-to-end tests: a disk, a repository, state, a replica, and the real commands between them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rigs.host.hearing import all_heard
from standin import Standin
from warmspare.cli.main import run
from warmspare.errors import StoreError, WarmspareError
from warmspare.format import restore_point
from warmspare.model.keyparts import encode_name
from warmspare.observe.events import Events
from warmspare.outside.text import shown
from warmspare.repository.chain import Repository
from warmspare.repository.making import make_repository
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.directory.file_upload import FileUpload
from warmspare.store.opening import open_store
from warmspare.sync.beginning import ChainStart

if TYPE_CHECKING:  # the demo uses this too, where there is no pytest
    import pytest

KIB, MIB = 1 << 10, 1 << 20
_COMPARED = 256 * KIB
Event = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: exit code, its JSON events, what it wrote to stderr."""

    code: int
    events: list[Event]
    stderr: str

    def last(self, name: str) -> Event:
        return [event for event in self.events if event["event"] == name][-1]

    def all(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]


def command(*arguments: object) -> Outcome:
    """Run the real command line in this process, with --json, and hold it to its promises about output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*map(str, arguments), "--json"])
    events = all_heard(out.getvalue())
    outcome = Outcome(code, events, err.getvalue())
    assert "Traceback" not in outcome.stderr, outcome.stderr
    assert code != 1, f"a bug: {outcome.stderr}"
    lines = outcome.stderr.strip().splitlines()
    if events and events[-1]["event"] == "sync.all":  # of several VMs each says for itself why it failed
        failed = [event for event in events if event["event"] == "sync.failed"]
        assert lines == [f"warmspare: {event['message']}" for event in failed], outcome
    elif events and events[-1]["event"] in ("audit.done", "reports.verified", "drills.done"):  # findings are no error
        assert code in (0, 5) and not lines, outcome
    elif code not in (0, 7):
        assert events and events[-1]["event"] == "error", outcome
        assert events[-1]["exit_code"] == code, outcome
        assert len(lines) == 1 and lines[0] == f"warmspare: {shown(events[-1]['message'])}", outcome.stderr
    return outcome


@dataclass
class Rig:
    """One VM's world below `home`. `repo` may be replaced by another URI. more: options of each command. direct: those
    by which the tests' own tools reach the store, where they are others."""

    home: Path
    vm: str = "vm"
    repo: str = ""
    more: list[str] = field(default_factory=list)
    direct: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repo = self.repo or str(self.home / "repo")

    @property
    def disk(self) -> Path:
        return self.home / "disk.raw"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def replica(self) -> Path:
        return self.home / "replica.raw"

    def argument(self, disk: object) -> object:
        """How a disk is given to `sync`."""
        return disk

    def new(self) -> list[str]:
        """What is said for the first sync, and no more; see `begun`."""
        return begun(self.repo, self.vm, *(self.direct or self.more))

    def sync(
        self, *more: object, disks: list[object] | None = None, code: int = 0, state: Path | None = None
    ) -> Outcome:
        outcome = command(
            "sync",
            *map(self.argument, disks or [self.disk]),
            "--vm",
            self.vm,
            "--repo",
            self.repo,
            "--state",
            state or self.state,
            *self.more,
            *self.new(),
            *more,
        )
        assert outcome.code == code, outcome
        return outcome

    def apply(self, *more: object, to: Path | None = None, code: int = 0) -> Outcome:
        target = to or self.replica
        outcome = command("apply", "--vm", self.vm, "--repo", self.repo, "--to", target, *self.more, *more)
        assert outcome.code == code, outcome
        return outcome

    # the repository as a directory

    @property
    def root(self) -> Path:
        return Path(self.repo) / "vms" / encode_name(self.vm)

    def objects(self, kind: str) -> list[Path]:
        """Packs, manifests, tables or points, oldest run first."""
        found = files_below(self.root / kind)
        return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name))

    def point_path(self, sequence: int) -> Path:
        return Path(self.repo) / layout.point_key(encode_name(self.vm), sequence)

    def point(self, sequence: int) -> restore_point.RestorePoint:
        path = self.point_path(sequence)
        return restore_point.decode(path.read_bytes(), str(path))

    def snapshot(self) -> dict[str, str]:
        """Every file of the repository and its SHA-256; what is being uploaded left out."""
        return fingerprint(Path(self.repo))


@dataclass
class VddkRig(Rig):
    """The same world, with the disks read through the stand-in of a VDDK. transport: what that reads them by."""

    transport: str = "nbdssl"
    old: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.standin = Standin(self.home / "vddk", old=self.old)
        self.standin.modes(self.transport)
        self.more = [*self.more, "--vddk", str(self.standin.home)]

    def argument(self, disk: object) -> object:
        name, _, path = str(disk).rpartition("=")
        if self.transport != "file":
            self.standin.disk(path, Path(path))
        return f"{name or Path(path).name}=vddk://{path}"

    def apply(self, *more: object, to: Path | None = None, code: int = 0) -> Outcome:
        self.standin.check()
        return self._without_vddk(lambda: super(VddkRig, self).apply(*more, to=to, code=code))

    def _without_vddk(self, call: Callable[[], Outcome]) -> Outcome:
        kept, self.more = self.more, self.more[:-2]
        try:
            return call()
        finally:
            self.more = kept


def begun(repo: object, vm: str, *more: object) -> list[str]:
    """What a person says for a first sync: the repository is made, if it is not there, and --new begins the VM's chain,
    if it has none. more: options of the sync, which may name an S3 server."""
    return ["--new"] if _at(repo, more, lambda store: begin(store, vm)) is ChainStart.NEW else []


def made(repo: object, *more: object) -> None:
    """The repository is there."""
    _at(repo, more, lambda store: make_repository(store, Events()))


def _at(repo: object, more: tuple[object, ...], what: Callable[[Store], Awaitable[T]]) -> T | None:
    """Done with a repository's store; None where that is in no state for it: the command that follows will say why."""
    words = [str(word) for word in more]
    url = words[words.index("--endpoint-url") + 1] if "--endpoint-url" in words else None

    async def work() -> T:
        store = open_store(str(repo), endpoint_url=url)
        try:
            return await what(store)
        finally:
            await store.close()

    with ThreadPoolExecutor(1) as pool, contextlib.suppress(WarmspareError):  # a test may have an event loop of its own
        return pool.submit(asyncio.run, work()).result()
    return None


async def begin(store: Store, vm: str) -> ChainStart:
    """The same for a `Sync`."""
    repository = Repository(store, (await make_repository(store, Events())).record.id)
    return ChainStart.NEW if await repository.newest(vm) is None else ChainStart.GO_ON


def losing_the_store(rig: Rig, monkeypatch: pytest.MonkeyPatch, packs: int) -> Outcome:
    """Sync, and lose the store after so many packs; those that go up beside the first that fails are in it before."""
    leave = FileUpload.__aexit__
    left, through = [packs], [0]

    async def leaving(upload: FileUpload, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and "/packs/" in upload._key:
            if not left[0]:
                while through[0] < packs:  # noqa: ASYNC110 (a test's own small wait)
                    await asyncio.sleep(0.001)
                await leave(upload, StoreError, StoreError("the store is gone"), None)
                raise StoreError("the store is gone", retryable=True)
            left[0] -= 1
            await leave(upload, kind, error, trace)
            through[0] += 1
            return
        await leave(upload, kind, error, trace)

    with monkeypatch.context() as patch:
        patch.setattr(FileUpload, "__aexit__", leaving)
        return rig.sync(code=4)


def fingerprint(root: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file below `root`, what is no part of what was written left
    out: temporary areas, leases, the index."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".tmp~" not in path.parts and path.name != "lease.json" and path.parent != root / "index"
    }


def files_below(folder: Path) -> Iterator[Path]:
    """Those that stand there while others come and go with their folders, for which a glob raises."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def same(left: Path, right: Path) -> bool:
    """Byte for byte, and of the same length."""
    if left.stat().st_size != right.stat().st_size:
        return False
    x, y = bytearray(_COMPARED), bytearray(_COMPARED)  # the same two all along: new ones of this size cost page faults
    with left.open("rb", buffering=0) as a, right.open("rb", buffering=0) as b:
        while count := a.readinto(x):
            if b.readinto(y) != count or (x != y if count == _COMPARED else x[:count] != y[:count]):
                return False
    return True


def random_disk(path: Path, size: int, rng: random.Random, *, pieces: int = 30, most: int = 300 * KIB) -> None:
    """A sparse disk with random data of random lengths at random places, and stretches that compress."""
    with path.open("wb") as file:
        file.truncate(size)
    scribble(path, rng, pieces=pieces, most=most, zeros=0.0)


def scribble(
    path: Path, rng: random.Random, *, pieces: int = 20, most: int = 100 * KIB, zeros: float = 0.3
) -> list[tuple[int, int]]:
    """Write random, compressible or zero bytes at random places; the (offset, length) that were written."""
    size = path.stat().st_size
    done: list[tuple[int, int]] = []
    with path.open("r+b") as file:
        for _ in range(pieces):
            length = min(size, rng.choice([1, 100, 512, 4096, 8192, rng.randrange(1, most)]))
            offset = rng.randrange(size - length + 1)
            if rng.random() < 0.5:
                offset = offset // 4096 * 4096
            draw = rng.random()
            if draw < zeros:
                data = bytes(length)
            elif draw < 0.5 + zeros / 2:
                data = (b"%08x" % rng.randrange(1 << 32) * (length // 8 + 1))[:length]
            else:
                data = rng.randbytes(length)
            file.seek(offset)
            file.write(data)
            done.append((offset, length))
    return done


def write_extents(path: Path, written: list[tuple[int, int]], unit: int, capacity: int) -> Path:
    """What a tracker of that granularity reports of writes, in a file as --extents takes it."""
    starts = sorted({at for offset, length in written for at in range(offset // unit * unit, offset + length, unit)})
    path.write_text("".join(f"{at} {min(unit, capacity - at)}\n" for at in starts))
    return path


def flip(path: Path, offset: int, mask: int = 0x10) -> bytes:
    """Flip bits of one byte of a file, read-only or not; the file's bytes before. Proves that they differ now."""
    before = path.read_bytes()
    data = bytearray(before)
    data[offset] ^= mask
    overwrite(path, bytes(data))
    assert path.read_bytes() != before and mask
    return before


def data_places(path: Path, rng: random.Random, most: int) -> list[int]:
    """Offsets of some bytes that lie in a file's data, first and last ones among them; sparse files are large."""
    out: list[int] = []
    with path.open("rb") as file:
        at, size = 0, path.stat().st_size
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            out += [start, at - 1, rng.randrange(start, at)]
    return sorted(rng.sample(out, min(most, len(out))))


def flip_in_place(path: Path, offset: int) -> None:
    """Invert one byte of a file, however large."""
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)
        file.seek(offset)
        file.write(bytes([before[0] ^ 0xFF]))


def overwrite(path: Path, data: bytes) -> None:
    """Replace a file's bytes in place."""
    path.chmod(0o600)
    path.write_bytes(data)


def python() -> str:
    return sys.executable
