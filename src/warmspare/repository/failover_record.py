"""The record of a VM's failover: what was done so far, and that its source must not be synced; owns its JSON, and
refuses to know AWS.

docs/format.md, "failover.json". It is the journal of a failover, and it lies in the repository because the host that
began one may be gone when another goes on. It is replaced by compare and swap: of two hosts at work, one ends.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from warmspare.errors import ConfigError, FormatError, LeaseError, NotFoundError, StoreError
from warmspare.format import flags
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.outside.records import Hex32, Line, Sequence, Sha256, UnfitError
from warmspare.repository.chain import Repository, now_text
from warmspare.repository.remedy_commands import command
from warmspare.store import layout
from warmspare.store.swaps import swap

MAX_RECORD_BYTES = 1 << 20
NO_TAG = '"00000000000000000000000000000000"'  # of no object
SETTLE_S = 2.0  # longer than a look and the write after it take
# In the `hardware` of a restore point: the run of the failover that was over when its sync began.
FAILBACK = "failback"
CLEARS = "failback-done"
State = Literal["starting", "started", "cleared"]


class FailoverStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that was done. what: `image`, `import`, `launching`, `refused`, `instance`, `running`, `died`. id:
    AWS's, or the instance type that is being tried, or was refused for certain."""

    at: Line
    what: Line
    id: Line


class FailoverRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """One failover of one VM. run: 32 hex digits, new for each; all tokens that AWS is given come from it.

    sequence, sha256: the restore point. region: of AWS. via: how the image is made. began, ended: RFC 3339 in UTC.
    """

    format: int
    flags: int
    vm_id: VmId
    run: Hex32
    state: State
    sequence: Sequence
    sha256: Sha256
    region: Line
    via: Line
    began: Line
    ended: Line = ""
    steps: list[FailoverStep] = []

    @property
    def point(self) -> PointId:
        return PointId(self.sequence, self.sha256)

    @property
    def holds(self) -> bool:
        """Whether the VM counts as failed over."""
        return self.state != "cleared"

    @property
    def attempt(self) -> int:
        """Which attempt at an instance is under way: the first, or one after each that died before it ran."""
        return 1 + len(self.ids_of("died"))

    @property
    def launching(self) -> str:
        """The instance type that this attempt tried last and that may have been started; "" for none."""
        last = self._last_tried
        return last.id if last is not None and last.what == "launching" else ""

    @property
    def _last_tried(self) -> FailoverStep | None:
        return next((step for step in reversed(self.steps) if step.what in ("launching", "refused", "died")), None)

    def has(self, what: str, identity: str) -> bool:
        """Whether a step is noted already. A type may be tried again after another step, which is another one."""
        if what in ("launching", "refused"):
            last = self._last_tried
            return last is not None and (last.what, last.id) == (what, identity)
        return self.id_of(what) == identity

    def ran(self, instance: str) -> bool:
        """Whether an instance was seen to run, or counts as started without a look."""
        return instance in self.ids_of("running") or self.state == "started"

    def ids_of(self, what: str) -> tuple[str, ...]:
        """The IDs of all steps of that kind, the first one first."""
        return tuple(step.id for step in self.steps if step.what == what)

    def id_of(self, what: str) -> str:
        """The ID of the last step of that kind; "" if there was none."""
        return next(iter(reversed(self.ids_of(what))), "")


class FailedOverError(ConfigError):
    """The VM runs elsewhere; what its source holds is not to be protected until someone has decided which is right."""

    kind = "failed-over"


@dataclass(slots=True)
class FailoverJournal:
    """A failover record in the store, and its changes. Read it with `read_journal`; one process, one task at a time."""

    repository: Repository
    vm: VmId
    record: FailoverRecord | None
    etag: str | None

    async def begin(self, restore_point: PointId, region: str, via: str) -> FailoverRecord:
        """Note that a failover begins, unless one is under way: then it goes on with that one.

        LeaseError if another host began one in this moment; StoreError. Once this returns, the VM is not synced any
        more.
        """
        if self.record is not None and self.record.holds:
            return self.record
        run = secrets.token_hex(16)
        began = FailoverRecord(
            flags.VERSION,
            0,
            self.vm,
            run,
            "starting",
            restore_point.sequence,
            restore_point.sha256,
            region,
            via,
            now_text(),
        )
        again = self.record is not None
        await self._write(began)
        if again and not await self._swaps():
            # Who else began in this moment has looked before our write, and written within this time; the last stays.
            await asyncio.sleep(SETTLE_S)
            await self._demand(began)
        return began

    @property
    def tried(self) -> str:
        """The instance type that is being tried; "" for none."""
        return self.record.launching if self.record is not None else ""

    async def note(self, what: str, identity: str) -> None:
        """One more step is done, or about to be. LeaseError, StoreError."""
        assert self.record is not None
        if not self.record.has(what, identity):
            step = FailoverStep(now_text(), what, identity)
            await self._write(msgspec.structs.replace(self.record, steps=[*self.record.steps, step]))

    async def move(self, state: State) -> None:
        """Another state. LeaseError, StoreError."""
        assert self.record is not None
        if self.record.state != state:
            ended = now_text() if state == "cleared" else ""
            await self._write(msgspec.structs.replace(self.record, state=state, ended=ended))

    async def _write(self, record: FailoverRecord) -> FailoverRecord:
        key = layout.failover_key(vm_key(self.vm))
        data = encode(record)
        store = self.repository.store
        if self.record is not None:
            await self._demand(self.record)  # a server that ignores the condition would write over another's
        info = await swap(store, key, data, etag=self.etag)
        if info is None:  # another's, or ours, if the answer to an earlier try was lost
            info = await store.head(key)
        await self._demand(record)
        self.record, self.etag = record, info.etag if info is not None else None
        return record

    async def _demand(self, record: FailoverRecord) -> None:
        """LeaseError unless that is what stands there; FormatError if it is damaged."""
        key = layout.failover_key(vm_key(self.vm))
        try:
            data = await self.repository.store.get(key, max_bytes=MAX_RECORD_BYTES)
            there = decode(data, self.vm, self.repository.where(key))
        except NotFoundError:
            there = None
        if there != record:
            raise LeaseError(
                f"another process works on the failover of VM {self.vm!r}",
                where=self.repository.where(key),
                hint="let that one go on, or end it and run this again: it goes on from there",
                retryable=True,
            )

    async def _swaps(self) -> bool:
        """Whether the store refuses to replace the record by a tag that is not its own; it would by itself."""
        assert self.record is not None
        key = layout.failover_key(vm_key(self.vm))
        try:
            info = await self.repository.store.replace(key, encode(self.record), etag=NO_TAG)
        except StoreError as error:
            if error.retryable:
                raise
            return False
        if info is not None:
            self.etag = info.etag
        return info is None


def encode(record: FailoverRecord) -> bytes:
    """As stored."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


async def read_journal(repository: Repository, vm: VmId) -> FailoverJournal:
    """The record of a VM's failover, `record` None if there never was one. FormatError if it is damaged; StoreError."""
    key = layout.failover_key(vm_key(vm))
    info = await repository.store.head(key)
    if info is None:
        return FailoverJournal(repository, vm, None, None)
    data = await repository.store.get(key, max_bytes=MAX_RECORD_BYTES)
    return FailoverJournal(repository, vm, decode(data, vm, repository.where(key)), info.etag)


def decode(data: bytes, vm: VmId, where: str) -> FailoverRecord:
    """Decode and check a record of that VM. FormatError."""
    try:
        record = flags.decode(data, FailoverRecord, "failover record", where)
    except UnfitError as error:
        raise _damaged(str(error), where) from None
    if record.vm_id != vm:
        raise _damaged(f"it is that of VM {record.vm_id!r}", where)
    return record


def _damaged(what: str, where: str) -> FormatError:
    hint = (
        "put back a version of it that the bucket still has (what runs in AWS carries the tag warmspare:vm), and run "
        "again"
    )
    return FormatError(f"the failover record is damaged: {what}", where=where, hint=hint)


async def refuse_failed_over(repository: Repository, vm: VmId) -> FailoverRecord | None:
    """Its record of a failover that is over, None if there is none. FailedOverError if the VM counts as failed over;
    FormatError if that can't be told; StoreError."""
    record = (await read_journal(repository, vm)).record
    if record is None or not record.holds:
        return record
    instance = record.id_of("instance")
    where = f"runs in AWS as {instance}" if instance else "is being started in AWS"
    raise FailedOverError(
        f"VM {vm!r} was failed over on {record.began} to restore point "
        f"{record.point.label} and {where}; it is not synced or audited meanwhile",
        where=repository.where(layout.failover_key(vm_key(vm))),
        hint=f"once the right one of the two runs at home again, clear it with {clearing(repository, vm)}",
    )


def clearing(repository: Repository, vm: VmId) -> str:
    """The command that ends the failover of a VM, as it is to be typed."""
    return command(repository.store, CLEARS, vm)


def doubt_after(record: FailoverRecord | None, hardware: Mapping[str, Any]) -> str:
    """Why nothing is to be believed that says what changed at home since a restore point with that hardware: its disks
    may have been replaced by what came back from AWS, below whatever tracks them. "" if there is no reason.

    No date tells that: a point is newer than the return if its sync knew of it when it began.
    """
    if record is None or record.holds or hardware.get(FAILBACK) == record.run:
        return ""
    return f"the VM came back from a failover on {record.ended}, and what its disks hold now was not compared since"


def known_return(record: FailoverRecord | None) -> dict[str, Any]:
    """What the hardware of a restore point says of it whose sync began with that record of a failover."""
    return {} if record is None or record.holds else {FAILBACK: record.run}
