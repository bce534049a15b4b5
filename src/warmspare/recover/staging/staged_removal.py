"""EBS snapshots that staging needs no more, removed as far as AWS lets it; owns how those that stay are told, and
refuses to make an error of them: what was staged is staged.

Each that AWS refuses is told with its reason, in every run, for it costs money; it has its tags, so a later run asks
again. That is bounded: a run asks no more once so many were refused, and names the rest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.stage import StageKept, StageLeft, StageRemoved
from warmspare.recover.aws.aws_errors import AwsError, denied_by_aws
from warmspare.recover.aws.refused_deletion import IN_USE, forbidden
from warmspare.recover.staging.ebs import Ebs
from warmspare.recover.staging.staged import StagedDisk

DELETE = "ec2:DeleteSnapshot"
MOST_REFUSED = 16  # in a run
MOST_FAILED = 2  # requests that were tried for long, in a run: one may be about a snapshot that AWS itself can't handle
OLDEST_FIRST = 8  # locks of one length end by age; what lies behind a lock that stays has its turn by chance


class Removal:
    """Of one run for one VM. As a context manager it names, at the end, what was not asked for."""

    def __init__(self, ebs: Ebs, events: Events, housekeeping: Housekeeping, vm: VmId) -> None:
        self._ebs, self._events, self._housekeeping, self._vm = ebs, events, housekeeping, vm
        self._refused = self._failed = 0
        self._over = ""  # why nothing more is asked for
        self._left: list[str] = []
        self.kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell()

    async def remove(self, snapshot_id: str, label: str, why: str) -> bool:
        """Whether it is gone. label: of its restore point. why: it is to go, a clause."""
        if self._over:
            self._left.append(snapshot_id)
            self.kept += 1
            return False
        try:
            refusal = await self._ebs.remove(snapshot_id)
        except AwsError as error:
            self._give_up(error)
            self._keep(snapshot_id, label, error)
            return False
        if refusal is not None:
            self._refused += 1
            if self._refused >= MOST_REFUSED:
                self._over = f"AWS refused {self._refused} others in this run"
            self._keep(snapshot_id, label, refusal)
            return False
        self._events.emit(StageRemoved(vm=self._vm, snapshot=snapshot_id, point=label, message=why))
        return True

    async def expire(self, old: Sequence[StagedDisk]) -> list[StagedDisk]:
        """Remove them, oldest first; those that are gone."""
        first, rest = list(old[:OLDEST_FIRST]), list(old[OLDEST_FIRST:])
        if len(old) > MOST_REFUSED:
            random.shuffle(rest)
        gone = []
        for each in [*first, *rest]:
            why = "newer ones are staged" if each.completed else "AWS gave it up"
            if await self.remove(each.snapshot_id, each.point.label, why):
                gone.append(each)
        return gone

    def tell(self) -> None:
        """Name what was not asked for, and forget it."""
        left, self._left = self._left, []
        if left:
            self._events.emit(
                StageLeft(vm=self._vm, snapshots=left, message=f"not asked for in this run: {self._over}")
            )
            for each in left:
                self._housekeeping.failed(DELETE, each, self._over)

    def _give_up(self, error: AwsError) -> None:
        self._failed += 1
        if not error.retryable or self._failed >= MOST_FAILED:
            self._over = error.what

    def _keep(self, snapshot_id: str, label: str, error: AwsError) -> None:
        """It stays, and why. An image is no trouble: whoever registered it wants the snapshot."""
        self.kept += 1
        if error.code != IN_USE:
            with self._housekeeping.trying(DELETE, snapshot_id, denied=_grantable):
                raise error
        self._events.emit(
            StageKept(
                vm=self._vm, snapshot=snapshot_id, point=label, code=error.code, message=f"{error.what}; {error.hint}"
            )
        )


def _grantable(error: Exception) -> bool:
    """Whether a right is missing, and not forbidden."""
    return denied_by_aws(error) and isinstance(error, AwsError) and not forbidden(error)
