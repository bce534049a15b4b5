"""An audit of a source: its disks read afresh at one moment, held against the newest restore point; owns what can be
judged and what a difference means, writes nothing but the lease.

docs/audits.md, "Audits of a source". Blocks that change tracking reports as changed since that point can't be
judged; a difference in any other is the proof of a lost change. Putting it right is a sync's (`--repair`).
"""

from __future__ import annotations

import secrets
from pathlib import Path

from warmspare.audit.expected.hashes import ExpectedTable, expected_table
from warmspare.audit.expected.sample import Sample
from warmspare.audit.reports.report import MapBuilder
from warmspare.audit.source.source_scan import SourceScan, window_bounds, windows
from warmspare.audit.source.source_verdict import DiskVerdict, SourceAuditSettings, SourceVerdict
from warmspare.errors import ConfigError, SourceError
from warmspare.format.restore_point import Disk
from warmspare.model.extents import normalise, union, whole_disk, widen, without
from warmspare.model.ids import VmId, vm_key
from warmspare.model.units import BLOCK_BYTES, block_count
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.audit import AuditStart
from warmspare.repository.chain import Point, Repository, now_text, open_repository
from warmspare.repository.chain_owner import Settled, chain_of, settle
from warmspare.repository.failover_record import FailoverRecord, doubt_after, refuse_failed_over
from warmspare.source.ports import DiskInput, LastDisk, LastPoint, Machine
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.lease import Lease, watching
from warmspare.threads import Threads


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
            AuditStart(
                kind="source",
                vm=record.vm_id,
                repository=self._store.uri,
                subject=", ".join(one.source.where for one in opened.disks),
                point=point.id.label,
                bytes_total=self._meter.total_bytes,
                repair=False,
                resumed=None,
            )
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
        scan = SourceScan(given, table, verdict, threads, self._meter)
        for window in windows(sample, end):
            await scan.read(without(window, changed))
        if len(verdict.wrong) and self._settings.percent is not None:
            # What was missed at one place may have been missed at others, and the moment will not come again.
            verdict.in_full = True
            for (first, stop), drawn in zip(window_bounds(end), windows(sample, end), strict=True):
                await scan.read(without(without(normalise([first], [stop - first]), drawn), changed))
        self._meter.done_bytes += int(changed.total_bytes)
        verdict.seconds = self._meter.seconds - began
        return verdict
