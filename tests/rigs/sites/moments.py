"""A machine whose disks are images here, with moments of them that are taken and let go like snapshots, and change
tracking kept right; for tests of syncs in this process. What is written between and during moments is the test's."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from rig import KIB, scribble
from rigs.sites.tracked import FrozenSource, Image, TrackedMachine
from rigs.sites.tracking import Frozen, UnknownChangeIdError
from warmspare.model.extents import Extents, normalise
from warmspare.source.ports import DiskInput, Hole, LastPoint, Opened, Span


class Moment:
    """One. spans: how many more of its disks may be read before reading gets stuck; None: all. gone: whether nothing of
    it must be read any more."""

    def __init__(self, spans: int | None) -> None:
        self.spans, self.gone = spans, False


class MomentSource(FrozenSource):
    """A frozen image, a span at a time."""

    def __init__(self, path: Path, name: str, moment: Moment) -> None:
        super().__init__(path, name, read_ahead_spans=2)
        self._moment = moment

    async def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        moment = self._moment
        assert not moment.gone, "read after its moment was let go"
        async for item in super().read(extents):
            if moment.spans is not None:
                if moment.spans == 0:
                    await asyncio.Event().wait()
                moment.spans -= 1
            assert not moment.gone, "read after its moment was let go"
            yield item


class Moments(TrackedMachine):
    """before: called with the number of the moment just before it is taken. spans: how many a
    moment gives before its reading gets stuck; None: all; so a sync ends it by its age, and how far it comes does not
    depend on how fast this machine is.

    lifetimes: (taken, let go) of each moment, by time.monotonic().
    """

    def __init__(self, home: Path, *, granularity: int = 64 * KIB, seed: int = 1, spans: int | None = None) -> None:
        super().__init__(home, granularity=granularity, seed=seed)
        self.spans = spans
        self.before: Callable[[int], None] = lambda _: None
        self.count = 0
        self.lifetimes: list[list[float]] = []
        self.doubted = False  # whether the tracking is not to be believed at the next moment
        self._moment: Moment | None = None

    @property
    def held(self) -> bool:
        return self._moment is not None

    def scribble(self, rng: random.Random, **how: int) -> None:
        for disk in self.disks:
            for offset, length in scribble(disk.path, rng, **how):
                disk.tracker.wrote(offset, length)

    def grow(self, disk: Image, size: int) -> None:
        with disk.path.open("r+b") as file:
            file.seek(0, 2)
            file.write(self.rng.randbytes(size - disk.tracker.capacity))
        disk.tracker.grow(size)

    async def open(self, last: LastPoint | None) -> Opened:
        assert not self.held, "a moment is taken while another is held"
        self.count += 1
        self.before(self.count)
        self._moment = Moment(self.spans)
        taken_s = time.monotonic()
        self.lifetimes.append([taken_s, 0.0])
        self.frozen, self._sources = {}, []
        inputs = []
        for disk in self.disks:
            frozen = self.frozen[disk.name] = self.home / f"{disk.name}-{self.count}.frozen"
            shutil.copyfile(disk.path, frozen)
            state = disk.tracker.freeze()
            changed, reason = self._changed(disk, state, last)
            source = MomentSource(frozen, disk.name, self._moment)
            self._sources.append(source)
            inputs.append(DiskInput(source, changed, reason, state.change_id))
        self.doubted = False
        return Opened(inputs, taken_s=taken_s)

    def _changed(self, disk: Image, state: Frozen, last: LastPoint | None) -> tuple[Extents | None, str]:
        before = last.disks.get(disk.name) if last else None
        if before is None:
            return None, "it is not in the last restore point"
        if self.doubted:
            return None, "it is doubted"
        try:
            found = disk.tracker.changes(state, before.change_id or "")
        except UnknownChangeIdError:
            return None, "tracking began anew"
        return normalise([offset for offset, _ in found], [length for _, length in found]), ""

    async def close(self) -> None:
        moment, self._moment = self._moment, None
        if moment is not None:
            moment.gone = True
            self.lifetimes[-1][1] = time.monotonic()
        await super().close()
