"""A machine whose change tracking withholds some of what changed, a clock that tests set, and syncs of it in this
process; for rolling audits."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import KIB, MIB, begin, command, same
from rigs.host.hearing import Record, recorder
from rigs.sites.tracked import FrozenSource, Image, TrackedMachine
from rigs.sites.tracking import Frozen, Tracker
from warmspare.model.extents import Extents, normalise
from warmspare.observe.events import Events
from warmspare.source.ports import DiskInput, LastPoint, Opened
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.planning.rolling import Rolling
from warmspare.sync.planning.rolling_cursor import DAY_S
from warmspare.sync.results import SyncResult
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings

UNIT = 64 * KIB
HOUR_S = 3600.0


class Liar(TrackedMachine):
    """lies: the share of changed units that its tracking does not report. withheld: the lies
    of the last moment, (disk, offset), of units whose bytes had really changed."""

    def __init__(self, home: Path, *, seed: int = 1) -> None:
        super().__init__(home, granularity=UNIT, seed=seed)
        self.lies = 0.0
        self.withheld: list[tuple[str, int]] = []
        self._before: dict[str, Path] = {}
        self._count = 0

    def add_sparse(self, name: str, size: int) -> Image:
        """A disk that is mostly holes."""
        path = self.home / f"{name}.raw"
        with path.open("xb") as file:
            file.truncate(size)
        disk = Image(name, path, Tracker(size, self.granularity, self.rng))
        self.disks.append(disk)
        for _ in range(6):
            self.write(disk, self.rng.randrange(size - MIB), self.rng.randbytes(self.rng.randrange(1, MIB)))
        return disk

    def grow(self, disk: Image, size: int) -> None:
        """With data at its new end."""
        with disk.path.open("r+b") as file:
            file.truncate(size)
            file.seek(size - 100)
            file.write(self.rng.randbytes(100))
        disk.tracker.grow(size)

    async def open(self, last: LastPoint | None) -> Opened:
        self._count += 1
        self._before, self.frozen, self.withheld = self.frozen, {}, []
        inputs = []
        for disk in self.disks:
            frozen = self.frozen[disk.name] = self.home / f"{disk.name}-{self._count}.frozen"
            # zeros are holes, as they are where a guest trims
            subprocess.run(["cp", "--sparse=always", disk.path, frozen], check=True)  # noqa: ASYNC221
            state = disk.tracker.freeze()
            changed, reason = self._changed(disk, state, last)
            self._sources.append(FrozenSource(frozen, disk.name))
            inputs.append(DiskInput(self._sources[-1], changed, reason, state.change_id))
        return Opened(inputs)

    def _changed(self, disk: Image, state: Frozen, last: LastPoint | None) -> tuple[Extents | None, str]:
        before = last.disks.get(disk.name) if last else None
        if before is None:
            return None, "it is not in the last restore point"
        kept = []
        for offset, length in disk.tracker.changes(state, before.change_id or ""):
            for at in range(offset, offset + length, UNIT):
                size = min(UNIT, offset + length - at)
                if not self.lies or self.rng.random() >= self.lies:
                    kept.append((at, size))
                elif self._differs(disk, at, size):
                    self.withheld.append((disk.name, at))
        return normalise([at for at, _ in kept], [size for _, size in kept]), ""

    def _differs(self, disk: Image, offset: int, size: int) -> bool:
        parts = []
        for path in (self._before[disk.name], self.frozen[disk.name]):
            with path.open("rb") as file:
                file.seek(offset)
                parts.append(file.read(size))
        return parts[0] != parts[1]


@dataclass
class World:
    """One VM, its repository and state below `home`. now_s: the time."""

    home: Path
    seed: int = 1
    period_s: float = 7 * DAY_S
    now_s: float = 1e9
    may_compare: bool = True
    events: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.home / "vm").mkdir(parents=True)
        self.machine = Liar(self.home / "vm", seed=self.seed)
        self.rng = random.Random(self.seed)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    @property
    def state(self) -> Path:
        return self.home / "state"

    def sync(self, **more: Any) -> SyncResult:
        """One, at this time; `events` are its own."""
        return asyncio.run(self._sync(**more))

    async def _sync(self, **more: Any) -> SyncResult:
        self.events = []
        store = DirectoryStore(str(self.repo))
        rolling = Rolling(self.period_s, self.may_compare, lambda: self.now_s)
        old = dict(self.machine.frozen)
        try:
            target = more.pop("store", store)
            sync = Sender(
                target,
                self.machine,
                SyncSettings(self.state, 1, rolling=rolling, start=await begin(store, self.machine.vm_id)),
                Events(recorder(self.events)),
                **more,
            )
            return await sync.run()
        finally:
            await store.close()
            for name, path in old.items():
                if path != self.machine.frozen.get(name):
                    path.unlink()

    def all(self, name: str) -> list[Record]:
        return [event for event in self.events if event["event"] == name]

    def exact(self) -> bool:
        """The newest point, from nothing, is what the last moment froze."""
        target = self.home / "fresh"
        done = command("apply", "--vm", "vm", "--repo", self.repo, "--to", target)
        assert done.code == 0, done
        try:
            files = self.machine.frozen
            if len(files) == 1:
                return same(next(iter(files.values())), target)
            return all(same(path, target / name) for name, path in files.items())
        finally:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            shutil.rmtree(f"{target}.warmspare", ignore_errors=True)

    def guest(self, pieces: int = 6) -> None:
        """The guest writes data, text and zeros here and there."""
        for disk in self.machine.disks:
            size = disk.tracker.capacity
            for _ in range(self.rng.randrange(pieces + 1)):
                length = self.rng.choice([512, 4096, 64 * KIB, self.rng.randrange(1, 300 * KIB)])
                offset = self.rng.randrange(size - length)
                draw = self.rng.random()
                data = bytes(length) if draw < 0.3 else self.rng.randbytes(length)
                if draw > 0.8:
                    data = (b"%08x" % self.rng.randrange(1 << 32) * (length // 8 + 1))[:length]
                self.machine.write(disk, offset, data)
