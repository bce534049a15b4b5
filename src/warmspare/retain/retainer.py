"""The restore points of one VM, as a policy wants them: what goes, what stands for it; owns what is never let go.

Nothing is removed here: what goes is folded into what stays, and the next retention record says so. The newest point,
those that are held or staged, those whose time is not to be believed, and all of a VM that is failed over, stay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from warmspare.errors import ConfigError, IntegrityError, LeaseError, WarmspareError
from warmspare.format.retained.retention import Fold, StoredRetention
from warmspare.model.ids import PointId, VmId
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import read_journal
from warmspare.repository.history import retained
from warmspare.retain.folding import Folding
from warmspare.retain.point_times import ToldTime
from warmspare.retain.policy import RetentionPlan, RetentionPolicy, past_points, plan
from warmspare.retain.vm_standing import StandingPoint, VmStanding

Staged = Callable[[Repository, VmId], Awaitable[Sequence[PointId]]]
_Span = Fold | tuple[Point | None, Point]  # what stands for it already; or where it begins, and where it leads
Held = Callable[[Repository, VmId], Awaitable[Mapping[int, Sequence[str]]]]


@dataclass(frozen=True, slots=True)
class VmRetention:
    """What is to become of a VM's points. points: of which it is said. refusal: why nothing goes; "" where something
    may. doubts: what is not to be believed, as clauses, by sequence."""

    vm: VmId
    points: Mapping[int, StandingPoint]
    plan: RetentionPlan
    refusal: str = ""
    doubts: Mapping[int, str] = field(default_factory=dict)

    @property
    def goes(self) -> Sequence[int]:
        return () if self.refusal else self.plan.goes


class Retainer:
    """Of one VM. held: reasons of holds, by sequence."""

    def __init__(self, repository: Repository, found: VmStanding, policy: RetentionPolicy, held: Held) -> None:
        self._repository, self._found, self._policy, self._held = repository, found, policy, held

    async def look(self, staged: Staged | None) -> VmRetention:
        """What the policy says. staged: which points are staged in EC2; None: that is not asked. StoreError,
        IntegrityError."""
        found, vm = self._found, self._found.vm
        points = found.kept
        held = await self._held(self._repository, vm)
        refusal, needed = await self._needed(staged)
        told = {point.id.sequence: ToldTime(point.id.sequence, point.created_s, point.stored_s) for point in points}
        past = past_points(told, self._policy, held, needed)
        decided = plan(past, self._policy)
        doubts = {point.sequence: point.doubt for point in past if point.moment_s is None}
        by_sequence = {point.id.sequence: point for point in points}
        return VmRetention(vm, by_sequence, decided, refusal or decided.refusal, doubts)

    async def _needed(self, staged: Staged | None) -> tuple[str, dict[int, list[str]]]:
        """(why nothing of the VM goes, "" where something may; what else keeps a point, by sequence)."""
        vm = self._found.vm
        record = (await read_journal(self._repository, vm)).record
        if record is not None and record.holds:
            return f"it is failed over to restore point {record.point.label}", {}
        needed: dict[int, list[str]] = {}
        if staged is not None:
            try:
                there = await staged(self._repository, vm)
            except WarmspareError as error:
                return f"what of it is staged could not be asked: {error.what}", {}
            for point in there:
                needed.setdefault(point.sequence, []).append("staged in EC2")
        return "", needed

    async def survey(self, decided: VmRetention, folding: Folding) -> None:
        """Add up in `folding` what `fold` would cost and bring."""
        async for span in self._spans(decided):
            if not isinstance(span, Fold):
                await folding.survey(*span)

    async def fold(self, decided: VmRetention, folding: Folding) -> None:
        """Make what stands for the points that go, and say so in the next retention record. LeaseError where another
        did meanwhile; then nothing is changed. IntegrityError, StoreError."""
        before = self._found.newest
        try:
            folds = [
                span if isinstance(span, Fold) else await folding.fold(*span) async for span in self._spans(decided)
            ]
        except (ConfigError, IntegrityError) as error:  # of points that another let go meanwhile
            there = await retained.newest(self._repository, decided.vm)
            if (there.sha256 if there else "") != (before.sha256 if before else ""):
                raise self._another() from error
            raise
        if folds == (list(before.record.folds) if before else []):
            return
        await self._write(before, folds)
        # Who holds a point looks, after the hold is there, whether the point still stands; and here it is looked the
        # other way round. So one of the two sees it, and nothing was removed yet.
        late = sorted(set(await self._held(self._repository, decided.vm)) & set(decided.goes))
        if late:
            there = await retained.newest(self._repository, decided.vm)
            assert there
            await self._write(there, list(before.record.folds) if before else [])
            raise LeaseError(
                f"restore point {late[0]} of VM {decided.vm!r} was held while it was let go, so all of them stay",
                where=self._repository.store.uri,
                hint="run it again",
                retryable=True,
            )

    async def _write(self, before: StoredRetention | None, folds: list[Fold]) -> None:
        if not await retained.write(self._repository, self._found.vm, before, folds):
            raise self._another()

    def _another(self) -> LeaseError:
        return LeaseError(
            f"another lets points of VM {self._found.vm!r} go",
            where=self._repository.store.uri,
            hint="wait for it to end; nothing of this run counts",
            retryable=True,
        )

    async def _spans(self, decided: VmRetention) -> AsyncIterator[_Span]:
        """Of each kept point before which points go, or went."""
        record = self._found.newest.record if self._found.newest else None
        at = 0
        for sequence in sorted(set(decided.points) - set(decided.goes)):
            there = record.of_target(sequence) if record else None
            if there is not None and there.after == at:
                yield there
            elif sequence != at + 1:
                base = await self._load(at) if at else None
                yield base, await self._load(sequence)
            at = sequence

    async def _load(self, sequence: int) -> Point:
        return await self._repository.load(self._found.vm, sequence)
