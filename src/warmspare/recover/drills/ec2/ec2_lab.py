"""EC2 as the place of a rehearsal: every VM in the isolated subnet, side by side, where they reach one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from warmspare.recover.drills.drill_record import DrillKind
from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill, Looked
from warmspare.recover.drills.evidence import DrillVerdict, point_fields
from warmspare.recover.drills.rehearsal import RehearsedVm
from warmspare.recover.drills.rules import Rules
from warmspare.recover.drills.turn import DrillTurn
from warmspare.recover.failover.plan import Network, VmPlan


@dataclass(frozen=True, slots=True)
class Ec2Lab:
    """network: where all cards go. scratch: for what is fetched when the disks are looked into. lasts_s: how long an
    instance of it may be needed."""

    drill: Ec2Drill
    network: Network
    scratch: Path
    lasts_s: float
    kind: DrillKind = "ec2"
    note: str = ""

    async def look(self, plan: VmPlan, at: str | None) -> RehearsedVm:
        """See rehearsal.Lab."""
        looked = await self.drill.look(plan, self.network, at, self.scratch)
        point = looked.chosen.point
        said = point_fields(point.id, point.record.created)
        built = looked.machine
        return RehearsedVm(built.vm_id, built.vm_name, said, looked.would, partial(self._boot, looked))

    async def _boot(self, looked: Looked, rules: Rules, folder: Path, turn: DrillTurn) -> DrillVerdict:
        return await self.drill.boot(looked, rules, folder, turn, self.lasts_s)


def lasts_s(plans: Sequence[VmPlan], rules: Callable[[VmPlan], Rules]) -> float:
    """How long an instance of a rehearsal may be needed at most: until the last order was judged. rules: how a VM is,
    which may give it longer than its plan does."""
    orders: dict[int, float] = {}
    for plan in plans:
        orders[plan.order] = max(orders.get(plan.order, 0.0), plan.delay_s + rules(plan).timeout_s)
    return sum(orders.values())
