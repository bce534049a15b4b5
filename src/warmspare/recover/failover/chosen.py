"""The staged restore point that a recovery starts from: chosen among what is staged, and held against the repository;
refuses one that the repository knows otherwise.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from warmspare.errors import IntegrityError, RecoverError, by_hand
from warmspare.model.ids import PointId, VmId
from warmspare.recover.aws.client import Aws
from warmspare.recover.staging.staged import StagedPoint, newest_usable, staged_points
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import clearing
from warmspare.repository.history.steps import recall
from warmspare.repository.remedy_commands import command


@dataclass(frozen=True, slots=True)
class Chosen:
    """staged: of which every disk is completed. point: the same in the repository. newer: sequences of restore points
    that came after it and are not to be had in EC2."""

    staged: StagedPoint
    point: Point
    newer: list[int]

    @property
    def tags(self) -> dict[str, str]:
        """What everything that is made of it carries."""
        return {
            "warmspare:repository": self.staged.repository,
            "warmspare:vm": self.staged.vm,
            "warmspare:point": str(self.point.id.sequence),
            "warmspare:point-sha256": self.point.id.sha256,
        }

    @property
    def age_s(self) -> float:
        """How long ago the restore point was made."""
        made = datetime.datetime.fromisoformat(self.staged.created)
        return max(0.0, (datetime.datetime.now(datetime.UTC) - made).total_seconds())


async def choose(
    repository: Repository, aws: Aws, vm: VmId, wanted: int | None = None, *, exactly: PointId | None = None
) -> Chosen:
    """The restore point with that sequence, or exactly that one, or the newest that is usable.

    RecoverError if it is not staged and completed here, or the repository has another one under its number; AwsError,
    StoreError.
    """
    usable = [one for one in await staged_points(aws, repository.id, vm) if one.usable]
    if exactly is not None:
        wanted, found = exactly.sequence, next((one for one in usable if one.id == exactly), None)
    elif wanted is not None:
        found = next((one for one in usable if one.id.sequence == wanted), None)
    else:
        found = newest_usable(usable)
    if found is None:
        which = f"restore point {wanted} of VM {vm!r}" if wanted is not None else f"no restore point of VM {vm!r}"
        has, region = [one.id.label for one in usable], await aws.region()
        at = ["--at", str(wanted)] if wanted is not None else []
        staging = command(repository.store, "stage", vm, *at, "--region", region)
        hint = (
            f"stage it with {staging}, or clear this failover with {clearing(repository, vm)} and run this again: the "
            "newest that is usable is taken"
            if exactly
            else f"stage it with {staging}, or name another region or point"
        )
        raise RecoverError(
            f"{which} is{' not' if wanted is not None else ''} staged and completed in {region}"
            + (f"; usable are {', '.join(has)}" if has else ""),
            where=repository.store.uri,
            hint=hint,
        )
    try:
        point = await recall(repository, vm, found.id)
    except IntegrityError as error:
        raise RecoverError(
            f"what is staged of VM {vm!r} is restore point {found.id.label}, and the repository has not got it under "
            f"that number: {error.what}",
            where=repository.store.uri,
            hint=by_hand(
                "the repository was rolled back or replaced: find out which of the two is right "
                "(docs/failures.md, The repository)"
            ),
        ) from None
    return Chosen(found, point, await repository.sequences(vm, after=found.id.sequence))
