"""An audit of a repository: every VM's restore points and all that they name; owns the order.

Writes nothing to the repository but marks and the index of VMs, and those only to repair. What it can't see it says:
content of the same length where the store keeps no checksum and `deep` is off, and a newest point that nobody saw
before.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import ExitStack
from pathlib import Path

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.reports.report import AuditReport
from warmspare.audit.repository import contents as inventories
from warmspare.audit.repository.beside.hold_checks import check_holds
from warmspare.audit.repository.beside.index_check import IndexCheck
from warmspare.audit.repository.beside.lingering import name_lingering
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.deep.deep_progress import FORMAT, DeepProgress, Keeper
from warmspare.audit.repository.deep.scan import Deep, ScannedDisk
from warmspare.audit.repository.descent import Chain, Proof, read_chain
from warmspare.audit.repository.loss_marks import leave_mark
from warmspare.audit.repository.object_checks import ObjectChecks
from warmspare.audit.repository.repository_tally import RepositoryTally
from warmspare.audit.repository.scratch import WHAT, Scratch, StaleScratchError
from warmspare.audit.repository.seen import KnownRepository
from warmspare.audit.repository.walk import PointWalk
from warmspare.errors import ConfigError, FormatError, LeaseError, NotFoundError
from warmspare.format import repofile
from warmspare.model.ids import DiskId, VmId, VmKey, vm_key, vm_of
from warmspare.model.runs import Runs
from warmspare.model.units import block_count
from warmspare.observe.events import Events, Meter
from warmspare.repository.chain import Repository, now_text
from warmspare.state.local_files import locked
from warmspare.store import layout
from warmspare.store.contract import Store


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
        self._tally = RepositoryTally(vm, known, deep=deep)
        self._findings, self._sums, self._notes = self._tally.findings, self._tally.sums, self._tally.notes
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
            self._tally.say(objects)
            scratch.measure()
            return self._tally.report(self._store, began, time.monotonic() - clock, identity, objects, scratch)

    async def _identity(self) -> str:
        """The repository's ID; "" with a finding where its own record does not say."""
        key, what = layout.repository_key(), "the repository's record"
        where = f"{self._store.uri.rstrip('/')}/{key}"
        try:
            data = await self._store.get(key, max_bytes=1 << 16)
            identity = repofile.decode(data, where).id
            self._tally.record_sha256 = hashlib.sha256(data).hexdigest()
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
        elif self._known.record_sha256 not in ("", self._tally.record_sha256):
            self._findings.add(
                FindingKind.OBJECT_CONTENT,
                point="",
                key=key,
                expected=f"SHA-256 {self._known.record_sha256}",
                actual=f"SHA-256 {self._tally.record_sha256}",
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
        grave = self._findings.grave
        chain = await read_chain(self._store, inventory, called, seen, self._findings)
        if name := chain.vm or called:
            await check_holds(Repository(self._store, identity), name, inventory, chain, self._findings)
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
        if (nowhere := chain.folds.leads_nowhere) is not None:
            self._notes.append(
                f"{chain.vm or called}: what was to stand for points up to {nowhere.target.label} counts for nothing, "
                "for that point is not there: a copy ended before it published it, or the newest points are gone"
            )
        images: dict[DiskId, ScannedDisk] = {}
        if self._deep and chain.head:
            images = await self._read_all(objects, walk, chain, inventory, identity, keeper)
        await self._judge_losses(walk, chain, inventory, images)
        await self._leavings(objects, inventory, walk, chain)
        if self._findings.grave > grave:
            await self._demand_standing(inventory)

    async def _demand_standing(self, inventory: VmContents) -> None:
        """LeaseError where what this audit went by was removed meanwhile: then what it found is not known to be wrong.
        Whoever lets points go gives those that began before the grace time to end."""
        mine = layout.retention_key(inventory.vm, max(inventory.generations, default=1))
        there = [info.key async for info in self._store.list(layout.retention_prefix(inventory.vm))]
        if not there or there[0] <= mine:
            return
        raise LeaseError(
            "restore points were let go while this audit ran, and the grace time is over, so nothing tells what was "
            "wrong and what was removed",
            where=f"{self._store.uri.rstrip('/')}/{there[0]}",
            hint="run it again; where it takes longer than the grace time, let `warmspare prune` have a longer one",
            retryable=True,
        )

    # blocks

    async def _read_all(
        self, objects: ObjectChecks, walk: PointWalk, chain: Chain, inventory: VmContents, identity: str, keeper: Keeper
    ) -> dict[DiskId, ScannedDisk]:
        assert chain.head
        left = keeper.load()
        if left and not _same_way(left, chain):
            left = None  # also where points were let go since: the image is that of a point that is no more
        if left is None:
            keeper.forget()
        else:
            self._tally.resumed = left.began
        head = chain.head
        for attempt in (1, 2):
            progress = left or DeepProgress(
                FORMAT,
                identity,
                inventory.vm,
                secrets.token_hex(8),
                now_text(),
                head.sequence,
                head.sha256,
                retention=chain.folds.sha256,
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
                    for file in image.files:
                        objects.scratch.drop(file)
                keeper.forget()
                left, self._tally.resumed = None, ""
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
        self._tally.draw(walk, chain, deep.images, self._meter.seconds)
        return deep.images

    async def _judge_losses(
        self, walk: PointWalk, chain: Chain, inventory: VmContents, images: dict[DiskId, ScannedDisk]
    ) -> None:
        """Which points can't be had in full, and whether the newest can be healed."""
        lost: dict[DiskId, Runs] = {}
        for disk in walk.head.disks if walk.head else []:
            state = walk.disks[disk.id]
            image = images.get(disk.id)
            losses = image.losses if image else state.losses
            self._tally.tell_losses(chain, disk, losses, state.broken or (image.stopped if image else ""))
            runs = losses.runs(block_count(disk.capacity_bytes))
            if len(runs):
                lost[disk.id] = runs
                self._sums.lost_blocks += runs.blocks
        if lost and self._repair:
            key = await leave_mark(self._store, inventory, chain, lost)
            self._sums.marked += sum(runs.blocks for runs in lost.values())
            self._notes.append(
                f"{chain.vm}: the lost blocks of the newest restore point are marked in {key or inventory.marks[-1]}: "
                "the next sync reads them again and sends them whole"
            )
        elif lost:
            self._notes.append(
                f"{chain.vm}: the newest restore point has lost blocks; with --repair they are marked, and the next "
                "sync sends them again"
            )

    # what nobody names

    async def _leavings(self, objects: ObjectChecks, inventory: VmContents, walk: PointWalk, chain: Chain) -> None:
        for key in inventory.foreign:
            self._foreign(key)
        called = chain.vm or inventory.vm
        if inventory.live:
            self._notes.append(
                f"{called}: a sync or a prune may be at work, so objects and uploads that no restore point names are "
                "not judged"
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
        if not await name_lingering(objects, inventory, chain):
            self._notes.append(
                f"{called}: what restore points that were let go still name can't be read, so it can't be told from "
                "what nobody names"
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


def _same_way(left: DeepProgress, chain: Chain) -> bool:
    """Whether the points that an interrupted audit judged are those of the chain, and come to in the same way."""
    target, at = chain.links.get(left.target), chain.links.get(left.at)
    return (
        target is not None
        and left.retention == chain.folds.sha256
        and target.sha256 == left.target_sha256
        and (left.at_sha256 in ("", at.sha256 if at else "-"))
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
