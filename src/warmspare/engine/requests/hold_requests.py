"""Holds: that a restore point is not to be removed, whatever a policy says."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from warmspare.engine.request import RunContext
from warmspare.engine.wiring.dry_run import would
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import ConfigError, IntegrityError
from warmspare.model.named_moment import moment_text
from warmspare.observe.kinds.repository_events import HoldAdded, HoldListed, HoldsDone, HoldsRemoved, HoldState
from warmspare.observe.kinds.run_events import WouldDone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmspare.model.ids import VmId
    from warmspare.repository.chain import Repository
    from warmspare.repository.holds import PlacedHold

_LABEL = re.compile(r"([0-9]{1,10})(?:-([0-9a-f]{1,64}))?")
VMS_AT_ONCE = 16


class HoldAddRequest(RepositoryRequest[HoldAdded | WouldDone], frozen=True, kw_only=True):
    """Hold a restore point. vm: its ID or name. at: number, label or time; None: the newest. reason: for people.
    until_s: when it ends, Unix seconds; None: when it is removed. ConfigError where the point was
    removed meanwhile. dry_run: say what would be held."""

    vm: str
    at: str | None = None
    reason: str = ""
    until_s: float | None = None
    dry_run: bool = False

    async def perform(self, run: RunContext) -> HoldAdded | WouldDone:
        from warmspare.format.retained.hold import REASON_CHARS
        from warmspare.repository.chain import open_repository
        from warmspare.repository.holds import add_hold
        from warmspare.repository.vm_lookup import point_called

        if len(self.reason) > REASON_CHARS or not self.reason.isprintable():
            what = f"a reason is one line of at most {REASON_CHARS} characters"
            raise ConfigError(what, where="--reason", hint="say it shorter")
        if self.until_s is not None and self.until_s <= time.time():
            raise ConfigError("the hold would have ended already", where="--until", hint="give a time to come")
        until = None if self.until_s is None else _moment(self.until_s)
        store = self.repository.open(run.retrying)
        try:
            repository = await open_repository(store)
            point = await point_called(repository, self.vm, self.at)
            if self.dry_run:
                ends = f" until {until}" if until else ""
                return would(run, [f"hold restore point {point.id.label}{ends}"], point.record.vm_id)
            placed = await add_hold(repository, point, self.reason, until)
        finally:
            await store.close()
        done = HoldAdded(
            vm=point.record.vm_id,
            point=point.id.label,
            sequence=point.id.sequence,
            sha256=point.id.sha256,
            id=placed.token,
            reason=self.reason,
            until=until,
        )
        run.events.emit(done)
        return done


class HoldRemoveRequest(RepositoryRequest[HoldsRemoved | WouldDone], frozen=True, kw_only=True):
    """Take holds of a restore point away. at: number, label or time. id: only this one; None: the point's only one.
    dry_run: say which it would be."""

    vm: str
    at: str
    id: str | None = None
    dry_run: bool = False

    async def perform(self, run: RunContext) -> HoldsRemoved | WouldDone:
        from warmspare.repository.chain import open_repository
        from warmspare.repository.holds import holds_of, remove_holds
        from warmspare.repository.vm_lookup import vm_called

        store = self.repository.open(run.retrying)
        try:
            repository = await open_repository(store)
            vm = await vm_called(repository, self.vm)
            placed = await holds_of(repository, vm)
            known = [(one.sequence, None if one.hold is None else one.hold.sha256) for one in placed]
            sequence = await _sequence(repository, vm, self.at, known)
            there = [one for one in placed if one.sequence == sequence]
            gone = self._meant(there, sequence)
            if self.dry_run:
                return would(run, [f"remove the hold {one.token} on restore point {sequence}" for one in gone], vm)
            await remove_holds(repository, gone)
        finally:
            await store.close()
        ids = [one.token for one in gone]
        done = HoldsRemoved(vm=vm, sequence=sequence, ids=ids, left=len(there) - len(gone))
        run.events.emit(done)
        return done

    def _meant(self, there: Sequence[PlacedHold], sequence: int) -> list[PlacedHold]:
        """ConfigError where that is none, or not said."""
        meant = [one for one in there if self.id in (None, one.token)]
        if not meant:
            which = f"no hold {self.id}" if self.id is not None and there else "no hold"
            what = f"restore point {sequence} of VM {self.vm!r} has {which}"
            raise ConfigError(what, where=self.repository.uri, hint="`warmspare hold list` shows which there are")
        if len(meant) > 1:
            what = f"restore point {sequence} of VM {self.vm!r} has {len(meant)} holds"
            raise ConfigError(what, where=", ".join(one.token for one in meant), hint="say which by --id")
        return meant


class HoldListRequest(RepositoryRequest[list[HoldListed]], frozen=True, kw_only=True):
    """List holds, also those that have ended. IntegrityError where one can't be read, after all were told as events.

    vm: its ID or name; None: of all. at: only those of this point of the VM.
    """

    vm: str | None = None
    at: str | None = None

    async def perform(self, run: RunContext) -> list[HoldListed]:
        from warmspare.repository.chain import open_repository
        from warmspare.repository.vm_lookup import find
        from warmspare.side_by_side import side_by_side

        if self.at is not None and self.vm is None:
            raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME")
        store = self.repository.open(run.retrying)
        try:
            repository = await open_repository(store)

            async def of(vm: VmId) -> list[HoldListed]:
                return await _told(repository, vm)

            vms = await repository.vms() if self.vm is None else [(await find(repository, self.vm)).id]
            told = [one for some in await side_by_side(of, vms, VMS_AT_ONCE) for one in some]
            if self.at is not None and told:
                known = [(one.sequence, None if one.point is None else one.point.partition("-")[2]) for one in told]
                sequence = await _sequence(repository, vms[0], self.at, known)
                told = [one for one in told if one.sequence == sequence]
        finally:
            await store.close()
        for one in told:
            run.events.emit(one)
        damaged = [one for one in told if one.state == "damaged"]
        if damaged:
            raise IntegrityError(
                f"{len(damaged)} of {len(told)} holds can't be read; they hold their restore points all the same",
                where=self.repository.uri,
                hint="remove each by `warmspare hold remove --id`, and hold the points anew",
            )
        held = {(one.vm, one.sequence) for one in told if one.state != "ended"}
        run.events.emit(HoldsDone(count=len(told), held=len(held)))
        return told


async def _sequence(repository: Repository, vm: VmId, at: str, held: Sequence[tuple[int, str | None]]) -> int:
    """Of the point that is meant. One that is gone, or can't be read, may have holds still. held: of points with holds,
    the sequences and, as far as it is known, SHA-256."""
    match = _LABEL.fullmatch(at)
    if match is not None:
        for sequence, sha256 in held:
            if sequence == int(match[1]) and (sha256 is None or sha256.startswith((match[2] or "")[: len(sha256)])):
                return sequence
    return await repository.resolve(vm, at)


async def _told(repository: Repository, vm: VmId) -> list[HoldListed]:
    """Of one VM, by point."""
    from warmspare.repository.holds import holds_of, standing

    placed = await holds_of(repository, vm)
    keys = {one.key for one in await standing(repository, placed)}
    return [_listed(vm, one, "held" if one.key in keys else "ended") for one in placed]


def _listed(vm: VmId, placed: PlacedHold, state: HoldState) -> HoldListed:
    hold = placed.hold
    return HoldListed(
        vm=vm,
        sequence=placed.sequence,
        point=None if hold is None else hold.point.label,
        id=placed.token,
        state="damaged" if hold is None else state,
        reason=placed.damage if hold is None else hold.reason,
        created=None if hold is None else hold.created,
        until=None if hold is None else hold.until,
        host=None if hold is None else hold.host,
    )


def _moment(seconds: float) -> str:
    """RFC 3339 in UTC. ConfigError for what no calendar has."""
    try:
        return moment_text(int(seconds))
    except (ValueError, OverflowError):
        raise ConfigError("there is no such day", where="--until", hint="give one of this age") from None
