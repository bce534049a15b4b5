"""An audit of a repository: every VM's restore points and all that they name; owns the order and the report.

Writes nothing to the repository but marks and the index of VMs, and those only to repair. What it can't see it says:
content of the same length where the store keeps no checksum and `deep` is off, and a newest point that nobody saw
before.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warmspare.audit.reports import report as reports
from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.reports.report import SOUND, WRONG, ZERO, AuditReport, DiskResult, MapBuilder
from warmspare.audit.repository import contents as inventories
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.deep.deep_progress import FORMAT, DeepProgress, Keeper
from warmspare.audit.repository.deep.scan import Deep, ScannedDisk
from warmspare.audit.repository.descent import Chain, Proof, read_chain
from warmspare.audit.repository.index_check import IndexCheck
from warmspare.audit.repository.loss_marks import Runs, leave_mark
from warmspare.audit.repository.losses import Losses
from warmspare.audit.repository.object_checks import ObjectChecks
from warmspare.audit.repository.scratch import WHAT, Scratch, StaleScratchError
from warmspare.audit.repository.seen import KnownRepository, figures
from warmspare.audit.repository.walk import PointWalk
from warmspare.errors import ConfigError, FormatError, LeaseError, NotFoundError
from warmspare.format import repofile
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId, PointId, VmId, VmKey, vm_key, vm_of
from warmspare.model.units import BLOCK_BYTES, block_count
from warmspare.observe.events import Events, Meter
from warmspare.repository.chain import Repository, now_text
from warmspare.state.local_files import locked
from warmspare.state.report_chain import host, software
from warmspare.store import layout
from warmspare.store.contract import Store


@dataclass(slots=True)
class Sums:
    """Figures of all VMs."""

    vms: int = 0
    points: int = 0
    manifests: int = 0
    packs: int = 0
    tables: int = 0
    pack_bytes: int = 0
    states: int = 0
    unsure: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    lost_blocks: int = 0
    marked: int = 0
    heads: dict[VmId, PointId] = field(default_factory=dict)


class RepositoryAudit:
    """Settings are all arguments; `run` does it once. vm: an ID or name, None for all. known: what was seen before.
    scratch: a directory for working files, made if absent; only one audit may use it at a time."""

    def __init__(
        self,
        store: Store,
        scratch: Path,
        known: KnownRepository,
        events: Events,
        *,
        vm: str | None = None,
        deep: bool = False,
        repair: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self._store, self._directory, self._known, self._events = store, scratch, known, events
        self._wanted, self._deep, self._repair = vm, deep, repair
        self._meter = meter or Meter()
        self._findings = Findings()
        self._sums = Sums()
        self._notes: list[str] = []
        self._disks: list[DiskResult] = []
        self._resumed = self._record_sha256 = ""
        self._index: IndexCheck | None = None

    async def run(self) -> AuditReport:
        """ConfigError if there is no repository or no such VM, StoreError if it can't be read now, LeaseError if
        another audit uses the scratch directory. Killed or cancelled, a deep audit goes on from there."""
        began, clock = now_text(), time.monotonic()
        with ExitStack() as stack:
            scratch = stack.enter_context(Scratch(self._directory))
            if not stack.enter_context(locked(self._directory / "lock", WHAT)):
                raise LeaseError(
                    "another audit is using this scratch directory",
                    where=str(self._directory),
                    hint="wait for it to end, or give another --scratch",
                    retryable=True,
                )
            identity = await self._identity()
            objects = ObjectChecks(self._store, scratch, self._findings)
            names = await self._names()
            self._index = IndexCheck(Repository(self._store, identity)) if identity and not self._wanted else None
            for vm in names:
                await self._vm(vm, identity, objects, Keeper(scratch, identity, vm, self._events))
            if self._index is not None:
                self._notes += await self._index.run(repair=self._repair)
            self._say(objects)
            scratch.measure()
            return self._report(began, time.monotonic() - clock, identity, objects, scratch)

    async def _identity(self) -> str:
        """The repository's ID; "" with a finding where its own record does not say."""
        key, what = layout.repository_key(), "the repository's record"
        where = f"{self._store.uri.rstrip('/')}/{key}"
        try:
            data = await self._store.get(key, max_bytes=1 << 16)
            identity = repofile.decode(data, where).id
            self._record_sha256 = hashlib.sha256(data).hexdigest()
        except NotFoundError:
            if not (await inventories.vms(self._store))[0]:
                raise ConfigError(
                    "there is no warmspare repository here", where=self._store.uri, hint="check --repo"
                ) from None
            self._findings.add(FindingKind.OBJECT_MISSING, point="", key=key, expected=what, actual="nothing")
            return self._known.repository_id
        except FormatError as error:
            self._findings.add(FindingKind.OBJECT_MALFORMED, point="", key=key, expected=what, actual=error.what)
            return self._known.repository_id
        if self._known.repository_id not in ("", identity):
            self._findings.add(
                FindingKind.OBJECT_REPLAYED,
                point="",
                key=key,
                expected=f"repository {self._known.repository_id}",
                actual=f"repository {identity}",
                meaning="the repository has another ID than was seen here before",
            )
        elif self._known.record_sha256 not in ("", self._record_sha256):
            self._findings.add(
                FindingKind.OBJECT_CONTENT,
                point="",
                key=key,
                expected=f"SHA-256 {self._known.record_sha256}",
                actual=f"SHA-256 {self._record_sha256}",
                meaning="the record is not as an earlier audit saw it",
            )
        return identity

    async def _names(self) -> list[VmKey]:
        """The VMs to audit."""
        names, strange = await inventories.vms(self._store)
        if self._wanted is None:
            for key in strange:
                self._foreign(key)
            gone = {one.vm for one in self._known.seen} - {vm_of(name) or VmId("") for name in names}
            return sorted({*names, *(vm_key(vm) for vm in gone)})
        wanted = VmId(self._wanted)
        if (key := vm_key(wanted)) in names or self._known.of(wanted):
            return [key]
        called = [name for name in names if await self._called(name) == self._wanted]
        if len(called) == 1:
            return called
        what = f"{len(called)} VMs are" if called else "no VM is"
        raise ConfigError(
            f"{what} called {self._wanted!r} in this repository",
            where=self._store.uri,
            hint="list them with `warmspare points`, and give --vm an ID",
        )

    async def _called(self, vm: VmKey) -> str:
        """What the newest point that can be read calls the VM."""
        found = await inventories.take(self._store, vm)
        chain = await read_chain(self._store, found, vm_of(vm) or VmId(""), [], Findings())
        return chain.name

    def _foreign(self, key: str) -> None:
        self._findings.add(
            FindingKind.OBJECT_FOREIGN, point="", key=key, expected="a key of docs/format.md", actual="another"
        )

    async def _vm(self, vm: VmKey, identity: str, objects: ObjectChecks, keeper: Keeper) -> None:
        inventory = await inventories.take(self._store, vm)
        called = vm_of(vm) or VmId("")
        seen = [one for one in self._known.seen if vm_key(one.vm) == vm]
        chain = await read_chain(self._store, inventory, called, seen, self._findings)
        walk = PointWalk(objects, inventory, chain)
        await walk.run()
        if self._index is not None:
            self._index.take(inventory, chain, walk.head)
        sums = self._sums
        sums.vms += 1
        sums.points += walk.points
        sums.manifests += walk.manifests
        sums.packs += walk.packs
        sums.tables += walk.tables
        sums.pack_bytes += walk.pack_bytes
        if chain.head:
            sums.heads[chain.vm] = chain.head.id
            if chain.head.proof is Proof.UNPROVED:
                self._notes.append(
                    f"{chain.vm}: that {chain.head.label} is the newest restore point there ever was, and that its "
                    "record is as it was written, can't be told from the repository alone; nothing that was seen "
                    "before was given"
                )
        images: dict[DiskId, ScannedDisk] = {}
        if self._deep and chain.head:
            images = await self._read_all(objects, walk, chain, inventory, identity, keeper)
        await self._judge_losses(walk, chain, inventory, images)
        self._leavings(inventory, walk, chain)

    # blocks

    async def _read_all(
        self, objects: ObjectChecks, walk: PointWalk, chain: Chain, inventory: VmContents, identity: str, keeper: Keeper
    ) -> dict[DiskId, ScannedDisk]:
        assert chain.head
        left = keeper.load()
        if left and not _same_way(left, chain):
            left = None
        if left is None:
            keeper.forget()
        else:
            self._resumed = left.began
        head = chain.head
        for attempt in (1, 2):
            progress = left or DeepProgress(
                FORMAT, identity, inventory.vm, secrets.token_hex(8), now_text(), head.sequence, head.sha256
            )
            self._meter.total_bytes = walk.pack_bytes
            deep = Deep(objects, walk, chain, inventory.vm, progress, keeper, self._meter)
            try:
                await deep.run()
                break
            except* StaleScratchError as group:
                if left is None or attempt == 2:
                    raise group.exceptions[0] from None
                for image in deep.images.values():
                    for fd in image.fds:
                        objects.scratch.drop(fd)
                keeper.forget()
                left, self._resumed = None, ""
        self._sums.states += progress.states
        self._sums.unsure += progress.unsure
        if progress.target != head.sequence:
            self._notes.append(
                f"{chain.vm}: blocks were read up to restore point {progress.target}, the newest when the audit that "
                "was interrupted had begun; later ones were judged by what the store tells"
            )
        objects.scratch.measure()
        keeper.forget()
        if progress.target != head.sequence:
            return {}
        self._results(walk, chain, deep.images)
        return deep.images

    def _results(self, walk: PointWalk, chain: Chain, images: dict[DiskId, ScannedDisk]) -> None:
        """What each disk of the newest point looks like."""
        for disk in walk.head.disks if walk.head else []:
            image = images.get(disk.id)
            if image is None or image.stopped or image.capacity_bytes != disk.capacity_bytes:
                continue
            blocks = block_count(disk.capacity_bytes)
            drawn = MapBuilder(disk.capacity_bytes)
            drawn.add_run(ZERO, 0, blocks)
            for found, _ in image.entries.filled(0, blocks):
                drawn.add(ZERO, found, -1)
                drawn.add(SOUND, found)
            for start, count in image.losses.runs(blocks):
                drawn.add_run(SOUND, start, count, -1)
                drawn.add_run(WRONG, start, count)
            name = disk.name if self._wanted or self._sums.vms == 1 else f"{chain.vm}: {disk.name}"
            result = reports.disk_result(
                drawn,
                id=disk.id,
                name=name,
                path="",
                capacity_bytes=disk.capacity_bytes,
                root=disk.root,
                bytes_read=drawn.total(SOUND) * BLOCK_BYTES,
                seconds=self._meter.seconds,
            )
            self._disks.append(result)

    async def _judge_losses(
        self, walk: PointWalk, chain: Chain, inventory: VmContents, images: dict[DiskId, ScannedDisk]
    ) -> None:
        """Which points can't be had in full, and whether the newest can be healed."""
        lost: dict[DiskId, Runs] = {}
        for disk in walk.head.disks if walk.head else []:
            state = walk.disks[disk.id]
            image = images.get(disk.id)
            losses = image.losses if image else state.losses
            self._tell_losses(chain, disk, losses, state.broken or (image.stopped if image else ""))
            runs = list(losses.runs(block_count(disk.capacity_bytes)))
            if runs:
                lost[disk.id] = runs
                self._sums.lost_blocks += sum(count for _, count in runs)
        if lost and self._repair:
            key = await leave_mark(self._store, inventory, chain, lost)
            self._sums.marked += sum(count for runs in lost.values() for _, count in runs)
            self._notes.append(
                f"{chain.vm}: the lost blocks of the newest restore point are marked in {key or inventory.marks[-1]}: "
                "the next sync reads them again and sends them whole"
            )
        elif lost:
            self._notes.append(
                f"{chain.vm}: the newest restore point has lost blocks; with --repair they are marked, and the next "
                "sync sends them again"
            )

    def _tell_losses(self, chain: Chain, disk: Disk, losses: Losses, broken: str) -> None:
        doubt = "" if self._deep else " where it uses what is lost or damaged"
        for first, last in losses.spans:
            whole = "restore point" if first == last else "restore points"
            self._notes.append(
                f"{chain.vm}: disk {disk.id} can't be restored in full at {whole} "
                f"{self._label(chain, first)}" + ("" if first == last else f" to {self._label(chain, last)}") + doubt
            )
        if broken:
            self._notes.append(
                f"{chain.vm}: from restore point {broken} on the repository does not tell what disk {disk.id} holds; "
                "no sync can mend that: put the missing object back, or sync to a new repository"
            )

    @staticmethod
    def _label(chain: Chain, sequence: int) -> str:
        link = chain.links.get(sequence)
        return link.label if link else str(sequence)

    # what nobody names

    def _leavings(self, inventory: VmContents, walk: PointWalk, chain: Chain) -> None:
        for key in inventory.foreign:
            self._foreign(key)
        called = chain.vm or inventory.vm
        if inventory.live:
            self._notes.append(
                f"{called}: a sync may be at work, so objects and uploads that no restore point names are not judged"
            )
            return
        if inventory.uploads is None:
            self._notes.append(f"{called}: the store does not let us list uploads that were begun and never ended")
        for upload in inventory.uploads or []:
            self._findings.add(
                FindingKind.UPLOAD_UNFINISHED,
                point="",
                key=upload.key,
                expected="a whole object",
                actual=f"begun {_when(upload.began_s)}",
                remedy="`warmspare prune --yes` ends uploads that are a week old",
            )
        if not walk.complete:
            self._notes.append(
                f"{called}: records or manifests are missing or damaged, so what they named can't be told from what "
                "nobody names"
            )
            return
        for key, modified_s, size in inventory.left():
            self._sums.orphans += 1
            self._sums.orphan_bytes += size
            self._findings.add(
                FindingKind.OBJECT_ORPHAN,
                point="",
                key=key,
                expected="a restore point that names it",
                actual=f"{size} bytes of {_when(modified_s)}",
                remedy="none is needed; `warmspare prune --yes` removes it once no sync can use it any more",
            )

    # the report

    def _say(self, objects: ObjectChecks) -> None:
        if objects.unsummed and not self._deep:
            self._notes.append(
                f"the store keeps no checksum of {objects.unsummed} of {objects.looked} objects: a change of a pack "
                "that keeps its length and its header is not seen without --deep"
            )
        elif not self._deep:
            self._notes.append(
                "packs were judged by the length and the checksum that the store states, not by their bytes: --deep "
                "reads them"
            )

    def _report(
        self, began: str, seconds: float, identity: str, objects: ObjectChecks, scratch: Scratch
    ) -> AuditReport:
        sums = self._sums
        numbers: dict[str, int | float | str] = {
            "VMs": sums.vms,
            "restore points": sums.points,
            "manifests": sums.manifests,
            "packs": sums.packs,
            "checkpoints": sums.tables,
            "bytes in packs": sums.pack_bytes,
            "objects without a checksum": objects.unsummed,
            "orphans": sums.orphans,
            "orphan bytes": sums.orphan_bytes,
            "lost blocks of newest points": sums.lost_blocks,
            "blocks marked": sums.marked,
            "scratch bytes": scratch.peak_bytes,
        }
        if self._deep:
            numbers |= {"block states verified": sums.states, "block states not verifiable": sums.unsure}
        if self._known.sources:
            numbers["compared with"] = ", ".join(self._known.sources)
        one = sums.heads if self._wanted is not None else {}
        result: Literal["clean", "findings"] = "clean" if self._findings.clean else "findings"
        judged = sum(disk.judged for disk in self._disks)
        blocks = sum(disk.blocks for disk in self._disks)
        return AuditReport(
            format=reports.FORMAT,
            number=0,
            previous="",
            kind="repository",
            software=software(),
            host=host(),
            vm=next(iter(one), self._wanted or ""),
            vm_name="",
            repository=self._store.uri,
            repository_id=identity,
            subject=self._store.uri,
            mode="every block of every restore point" if self._deep else "what the store tells, and every manifest",
            point=None,
            began=began,
            ended=now_text(),
            seconds=round(seconds, 3),
            coverage_percent=round(100.0 * judged / blocks, 2) if blocks else 0.0,
            bytes_read=objects.fetched_bytes,
            bytes_fetched=objects.fetched_bytes,
            result=result,
            disks=self._disks,
            findings=self._findings.listed,
            findings_left_out=self._findings.left_out,
            resumed=self._resumed,
            figures={**numbers, **figures(self._record_sha256, sums.heads)},
            notes=self._notes,
        )


def _same_way(left: DeepProgress, chain: Chain) -> bool:
    """Whether the points that an interrupted audit judged are those of the chain."""
    target, at = chain.links.get(left.target), chain.links.get(left.at)
    return (
        target is not None
        and target.sha256 == left.target_sha256
        and (left.at_sha256 in ("", at.sha256 if at else "-"))
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
