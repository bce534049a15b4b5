"""An audit of a source: its disks read afresh at one moment, held against the newest restore point; owns what can be
judged and what a difference means, writes nothing but the lease.

docs/audits.md, "Audits of a source". Blocks that change tracking reports as changed since that point can't be
judged; a difference in any other is the proof of a lost change. Putting it right is a sync's (`--repair`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from warmspare._native import judge as native
from warmspare.audit.expected.blockset import BlockSet
from warmspare.audit.expected.hashes import ExpectedTable, expected_table
from warmspare.audit.expected.sample import Sample
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.findings import ABOUT, Finding, FindingKind, finding, unclean
from warmspare.audit.reports.report import MAX_FINDINGS, REPAIRED, SOUND, WRONG, ZERO, AuditReport, MapBuilder
from warmspare.errors import ConfigError, SourceError
from warmspare.format.hashtable import ENTRY_BYTES, ZERO_ENTRY
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U32
from warmspare.model.extents import Extents, normalise, union, whole_disk, widen, without
from warmspare.model.ids import DiskId, VmId, vm_key
from warmspare.model.units import BLOCK_BYTES, SPAN_BLOCKS, block_bytes, block_count
from warmspare.observe.events import Events, Meter
from warmspare.repository.chain import Point, Repository, now_text, open_repository
from warmspare.repository.chain_owner import Settled, chain_of, settle
from warmspare.repository.failover_record import FailoverRecord, doubt_after, refuse_failed_over
from warmspare.source.ports import DiskInput, Hole, LastDisk, LastPoint, Machine, Span
from warmspare.state.report_chain import host, software
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.lease import Lease, watching
from warmspare.threads import Threads

WINDOW_BLOCKS = 1 << 22  # 256 GiB: what is drawn of a sample at a time
_NO_EXTENTS = (
    "the disk differs from the restore point; nothing said what was written since, so either a change was lost or "
    "this is newer"
)
_NO_EXTENTS_REMEDY = "give --extents, or a disk that nobody wrote to since; a sync without --extents sends it"


@dataclass(frozen=True, slots=True, eq=False)
class SourceAuditSettings:
    """percent: the share of the blocks to look at, None for all. only: nothing but these, by disk; block-aligned."""

    percent: float | None = None
    only: Mapping[DiskId, Extents] | None = None


@dataclass(slots=True)
class DiskVerdict:
    """What is known of one disk. why_not: nothing of it could be judged, "" if some could. believed: whether something
    says what changed since. excluded_blocks: reported as changed, so not judged. in_full: a sample that had found
    something was made an audit of all. wrong: blocks that differ. evidence: (expected, actual) hashes of the first of
    them."""

    disk: Disk
    where: str
    map: MapBuilder
    why_not: str = ""
    believed: bool = False
    excluded_blocks: int = 0
    read_bytes: int = 0
    seconds: float = 0.0
    in_full: bool = False
    wrong: BlockSet = field(default_factory=BlockSet)
    evidence: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def judgeable(self) -> bool:
        return not self.why_not

    def extents(self) -> Extents:
        """What differs."""
        runs = np.array(list(self.wrong.runs()), dtype=np.int64).reshape(-1, 2) * BLOCK_BYTES
        stop = np.minimum(runs[:, 0] + runs[:, 1], self.disk.capacity_bytes)
        return normalise(runs[:, 0], stop - runs[:, 0])


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """What an audit came to; `report` is made of it."""

    point: Point
    repository: Repository
    disks: list[DiskVerdict]
    notes: list[str]
    began: str
    seed: int

    @property
    def wrong(self) -> dict[DiskId, Extents]:
        """What differs, by disk; those without a difference are left out."""
        return {one.disk.id: one.extents() for one in self.disks if len(one.wrong)}


class SourceAudit:
    """Runs once. machine: as a sync takes it. scratch: a directory for hash tables."""

    def __init__(
        self,
        store: Store,
        machine: Machine,
        events: Events,
        scratch: Path,
        settings: SourceAuditSettings,
        meter: Meter | None = None,
    ) -> None:
        self._store, self._machine, self._events = store, machine, events
        self._scratch, self._settings = scratch, settings
        self._meter = meter or Meter()
        self._seed = secrets.randbits(48)
        self._notes: list[str] = []
        self._over: FailoverRecord | None = None
        self._settled = Settled(None)

    async def run(self) -> SourceVerdict:
        """Read and judge, holding the lease, and leave the machine as it was. ConfigError where there is no restore
        point or the VM was failed over, SourceError where a disk can't be read; then nothing is judged."""
        began = now_text()
        repository = await open_repository(self._store)
        vm = await self._chain(repository)
        self._over = await refuse_failed_over(repository, vm)
        threads = Threads(1, "audit")
        try:
            key = layout.lease_key(vm_key(vm))
            async with Lease.hold(self._store, key, on_watch=watching(self._events, vm)):
                point = await self._head(repository, vm)
                self._settled = await settle(self._machine, point)  # a twin must not be judged as the other
                try:
                    disks = await self._machine_judged(repository, point, threads)
                finally:
                    await self._machine.close()
        finally:
            threads.close()
        return SourceVerdict(point, repository, disks, self._notes, began, self._seed)

    async def _chain(self, repository: Repository) -> VmId:
        """The ID of the machine's chain: its own, or that of one that it was adopted into."""
        vm, identity = self._machine.vm_id, self._machine.identity
        if identity is None or await repository.newest(vm) is not None:
            return vm
        return (await chain_of(repository, vm, identity))[0] or vm

    async def _head(self, repository: Repository, vm: VmId) -> Point:
        newest = await repository.newest(vm)
        if newest is None:
            raise ConfigError(
                f"VM {vm!r} has no restore point that its disks could be held against",
                where=self._store.uri,
                hint="check --vm and --repo, or sync it first",
            )
        return await repository.load(vm, newest)

    async def _machine_judged(self, repository: Repository, point: Point, threads: Threads) -> list[DiskVerdict]:
        record = point.record
        last = {disk.id: LastDisk(disk.capacity_bytes, disk.change_id) for disk in record.disks}
        doubt = doubt_after(self._over, record.hardware) or self._settled.doubt
        opened = await self._machine.open(LastPoint(last, False, record.hardware, doubt))
        given = {one.source.name: one for one in opened.disks}
        for name in sorted(set(given) - set(last)):
            self._notes.append(f"disk {name} is not in restore point {point.id.label} and was not judged")
        self._meter.total_bytes = sum(disk.capacity_bytes for disk in record.disks if disk.id in given)
        self._events.emit(
            "audit.start",
            kind="source",
            vm=record.vm_id,
            repository=self._store.uri,
            subject=", ".join(one.source.where for one in opened.disks),
            point=point.id.label,
            bytes_total=self._meter.total_bytes,
            repair=False,
            resumed=None,
        )
        out = []
        for disk in record.disks:
            if disk.id not in given:
                of_vm = "disks" in record.hardware
                why = "the VM has it no more, or it can't be snapshotted" if of_vm else "it was not given"
                out.append(DiskVerdict(disk, "", MapBuilder(disk.capacity_bytes), why))
                continue
            async with expected_table(repository, point, disk.id, self._scratch) as table:
                out.append(await self._judged(given[disk.id], disk, table, threads))
            given[disk.id].source.check()
        return out

    async def _judged(self, given: DiskInput, disk: Disk, table: ExpectedTable, threads: Threads) -> DiskVerdict:
        source, began = given.source, self._meter.seconds
        verdict = DiskVerdict(disk, source.where, MapBuilder(disk.capacity_bytes))
        verdict.believed = given.reported is not None
        if source.capacity_bytes < disk.capacity_bytes:
            raise SourceError(
                f"disk {source.name!r} shrank: it has {source.capacity_bytes} bytes and had {disk.capacity_bytes} at "
                "the last restore point",
                where=source.where,
                hint="check the path; a VMware disk never shrinks",
            )
        if given.reported is None and given.reason:
            verdict.why_not = f"all of it may have changed since: {given.reason}"
            return verdict
        # The short last block of a disk that grew is another block now.
        grown = source.capacity_bytes > disk.capacity_bytes
        end = disk.capacity_bytes // BLOCK_BYTES * BLOCK_BYTES if grown else disk.capacity_bytes
        changed = widen(given.reported, BLOCK_BYTES, end) if given.reported else normalise([], [])
        if self._settings.only is not None:
            asked = self._settings.only.get(disk.id, normalise([], []))
            changed = union(changed, without(whole_disk(end), asked))
        verdict.excluded_blocks = block_count(int(changed.total_bytes)) if len(changed) else 0
        sample = Sample(self._settings.percent, self._seed, block_count(end))
        scan = _Scan(given, table, verdict, threads, self._meter)
        for window in _windows(sample, end):
            await scan.read(without(window, changed))
        if len(verdict.wrong) and self._settings.percent is not None:
            # What was missed at one place may have been missed at others, and the moment will not come again.
            verdict.in_full = True
            for (first, stop), drawn in zip(_cut(end), _windows(sample, end), strict=True):
                await scan.read(without(without(normalise([first], [stop - first]), drawn), changed))
        self._meter.done_bytes += int(changed.total_bytes)
        verdict.seconds = self._meter.seconds - began
        return verdict


class _Scan:
    """Reads extents of a disk and holds what is there against the table."""

    def __init__(
        self, given: DiskInput, table: ExpectedTable, verdict: DiskVerdict, threads: Threads, meter: Meter
    ) -> None:
        self._source, self._table, self._verdict = given.source, table, verdict
        self._threads, self._meter = threads, meter
        self._actual = np.empty(SPAN_BLOCKS * ENTRY_BYTES, dtype=np.uint8)
        self._said = np.empty(SPAN_BLOCKS, dtype=np.uint8)

    async def read(self, extents: Extents) -> None:
        if not len(extents):
            return
        verdict = self._verdict
        async with aclosing(self._source.read(extents)) as items:
            async for item in items:
                if isinstance(item, Hole):
                    await self._threads.run(self._hole, item)
                    self._meter.done_bytes += (item.stop - item.start) * BLOCK_BYTES
                    continue
                size = len(item.data)
                try:
                    await self._threads.run(self._span, item)
                finally:
                    item.release()
                verdict.read_bytes += size
                self._meter.read_bytes += size
                self._meter.done_bytes += size

    def _hole(self, hole: Hole) -> None:
        """The medium says that it is zeros; what the table has there otherwise differs."""
        self._verdict.map.add_run(ZERO, hole.start, hole.stop - hole.start)
        for blocks in self._table.nonzero(hole.start, hole.stop):
            self._verdict.map.add(ZERO, blocks, -1)
            self._found(blocks, self._table.entries(blocks), np.zeros((blocks.size, ENTRY_BYTES), dtype=np.uint8))

    def _span(self, span: Span) -> None:
        blocks, count = span.blocks, span.blocks.size
        expected, said = self._table.entries(blocks), self._said[:count]
        native.judge_span(span.data, expected.reshape(-1), self._actual, said)
        self._verdict.map.add(ZERO, blocks[said == native.ZERO])
        self._verdict.map.add(SOUND, blocks[said == native.SOUND])
        rows = np.flatnonzero(said == native.WRONG)
        if rows.size:
            self._found(blocks[rows], expected[rows], self._actual.reshape(-1, ENTRY_BYTES)[rows])

    def _found(self, blocks: U32, expected: U8, actual: U8) -> None:
        verdict = self._verdict
        verdict.map.add(WRONG, blocks)
        verdict.wrong.add(blocks)
        for row in range(min(blocks.size, MAX_FINDINGS - len(verdict.evidence))):
            verdict.evidence[int(blocks[row])] = (expected[row].tobytes(), actual[row].tobytes())


def _cut(end: int) -> Iterator[tuple[int, int]]:
    """[first, stop) of windows of a disk, in bytes."""
    step = WINDOW_BLOCKS * BLOCK_BYTES
    for first in range(0, end, step):
        yield first, min(first + step, end)


def _windows(sample: Sample, end: int) -> Iterator[Extents]:
    """What a sample draws of [0, end) in bytes, a window at a time."""
    for first, stop in _cut(end):
        runs = np.array(list(sample.runs(first // BLOCK_BYTES, block_count(stop))), dtype=np.int64).reshape(-1, 2)
        offsets, stops = runs[:, 0] * BLOCK_BYTES, np.minimum(runs[:, 1] * BLOCK_BYTES, stop)
        yield normalise(offsets, stops - offsets)


# -- what it comes to -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair came to. point: the label of the restore point that it published. after: the wrong blocks, read
    once more and held against that."""

    point: str
    after: SourceVerdict

    def holds(self, disk_id: DiskId) -> BlockSet | None:
        """The blocks of a disk that differ still; None where that can't be told."""
        found = next((one for one in self.after.disks if one.disk.id == disk_id), None)
        return found.wrong if found is not None and found.judgeable else None


def report(
    verdict: SourceVerdict, settings: SourceAuditSettings, seconds: float, repair: Repair | None = None
) -> AuditReport:
    """An audit of a source as a report. settings: it was made with. seconds: that all of it took."""
    point, record = verdict.point, verdict.point.record
    findings: list[Finding] = []
    results, notes = [], list(verdict.notes)
    for one in verdict.disks:
        still = repair.holds(one.disk.id) if repair else None
        if repair and still is not None:
            for blocks in one.wrong.batches(1 << 16):
                healed = blocks[~still.holds(blocks)]
                one.map.add(WRONG, healed, -1)
                one.map.add(REPAIRED, healed)
        findings += _findings(one, point.id.label, still if repair else None, repair is not None)
        disk = one.disk
        results.append(
            reports.disk_result(
                one.map,
                id=disk.id,
                name=disk.name,
                path=one.where,
                capacity_bytes=disk.capacity_bytes,
                root=disk.root,
                bytes_read=one.read_bytes,
                seconds=one.seconds,
            )
        )
        if one.excluded_blocks:
            notes.append(
                f"{one.excluded_blocks} blocks of disk {disk.name} are reported as changed since restore point "
                f"{point.id.label} and could not be judged"
            )
        if not one.believed and one.judgeable:
            notes.append(
                f"nothing said what changed on disk {disk.name} since restore point {point.id.label}: what was written "
                "to it since counts as a difference"
            )
    wrong = sum(len(one.wrong) for one in verdict.disks)
    left_out = wrong - sum(len(one.evidence) for one in verdict.disks) + max(0, len(findings) - MAX_FINDINGS)
    figures: dict[str, int | float | str] = {
        "blocks_differing": wrong,
        "blocks_reported_changed": sum(one.excluded_blocks for one in verdict.disks),
    }
    if repair:
        figures["repaired_by"] = repair.point
    judged, there = sum(result.judged for result in results), sum(result.blocks for result in results)
    read_bytes = sum(one.read_bytes for one in [*verdict.disks, *(repair.after.disks if repair else [])])
    percent = settings.percent
    return AuditReport(
        reports.FORMAT,
        0,
        "",
        "source",
        software(),
        host(),
        record.vm_id,
        record.vm_name,
        verdict.repository.store.uri,
        verdict.repository.id,
        ", ".join(one.where for one in verdict.disks if one.where),
        "all blocks" if percent is None else f"a sample of {percent:g} % of the blocks (seed {verdict.seed})",
        reports.point_ref(point),
        verdict.began,
        now_text(),
        round(seconds, 3),
        round(100 * judged / there, 4) if there else 0.0,
        read_bytes,
        0,
        "findings" if unclean(findings) or left_out else "clean",
        results,
        findings[:MAX_FINDINGS],
        left_out,
        "",
        figures,
        notes,
    )


def _findings(one: DiskVerdict, point: str, still: BlockSet | None, repair: bool) -> list[Finding]:
    """A finding for each block of the evidence. still: those that differ after a repair, None where that is not
    known."""
    out: list[Finding] = []
    if one.why_not:
        meaning = f"{ABOUT[FindingKind.SOURCE_UNJUDGED].meaning}: {one.why_not}"
        out.append(finding(FindingKind.SOURCE_UNJUDGED, point=point, disk=one.disk.id, meaning=meaning))
    for block, (expected, actual) in sorted(one.evidence.items()):
        each = finding(
            FindingKind.CHANGE_LOST,
            point=point,
            disk=one.disk.id,
            offset=block * BLOCK_BYTES,
            length=block_bytes(block, one.disk.capacity_bytes),
            expected=_words(expected),
            actual=_words(actual),
            meaning="" if one.believed else _NO_EXTENTS,
            remedy="" if one.believed else _NO_EXTENTS_REMEDY,
        )
        if repair and still is not None and not still.holds(np.array([block]))[0]:
            each = msgspec.structs.replace(each, repaired=True)
        out.append(each)
    if one.in_full:
        out.append(finding(FindingKind.SOURCE_COMPARED, point=point, disk=one.disk.id))
    return out


def _words(digest: bytes) -> str:
    return "zeros" if digest == ZERO_ENTRY else f"xxh3-128 {digest.hex()}"
