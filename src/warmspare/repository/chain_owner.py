"""Whether a machine is the one whose chain it would go on in; owns the refusal of another that has its instance UUID.

Judged by what the newest point records, and, where that was made at another place, by asking whether the machine of
that place still lives there. Where nothing moved nothing is asked, of vCenter or the store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from warmspare.errors import ConfigError
from warmspare.model.ids import VmId
from warmspare.repository.chain import Point, Repository
from warmspare.source.identity import HomePlace, Identity
from warmspare.source.ports import Machine

LOADS = 16
SAY_ADOPT = "`sync --adopt` goes on in the chain with this one, if it is to take the other's place"


@dataclass(frozen=True, slots=True)
class Settled:
    """The machine may go on. identity: what its point records, None where nothing is known. moved: from where, None
    where it is where it was; then nothing that tracked changes is believed."""

    identity: Identity | None
    moved: HomePlace | None = None

    @property
    def doubt(self) -> str:
        return f"the VM lives elsewhere than at the last restore point, made of {self.moved}" if self.moved else ""


async def settle(machine: Machine, head: Point | None, *, adopt: bool = False) -> Settled:
    """Of a machine and the newest point of the chain. ConfigError where they are two machines; whatever asking raises
    where it can't be told. adopt: it was said that the machine takes the place of the other."""
    now = machine.identity
    before = Identity.of(head.record.hardware) if head is not None else None
    if now is None or before is None:
        return Settled(now or before)
    if before.place.same(now.place):
        return Settled(now.after(before))
    if not adopt:
        if before.instance_uuid != now.instance_uuid:
            raise ConfigError(
                f"the chain that VM {now.place} was adopted into is another's again: its newest restore point is of "
                f"{before.place}",
                hint=SAY_ADOPT,
            )
        if any(place.same(now.place) for place in before.left):
            why = "its restore points are by turns of either, and now of the latter"
            raise two_machines(now.instance_uuid, now.place, before.place, why)
        if await machine.lives(before):
            why = "the newest restore point is of the latter, which is there still"
            raise two_machines(now.instance_uuid, now.place, before.place, why)
    return Settled(now.after(before), before.place)


def two_machines(instance_uuid: str, one: HomePlace, other: HomePlace, why: str) -> ConfigError:
    """The error that says so."""
    return ConfigError(
        f"two VMs have the instance UUID {instance_uuid}: {one}, and {other}; {why}",
        where=one.server,
        hint=f"give one of them another instance UUID, or remove it; {SAY_ADOPT}",
    )


@dataclass(frozen=True, slots=True)
class OwnedChain:
    """A chain that is there, by the newest of its points."""

    vm: VmId
    name: str
    identity: Identity


async def chains(repository: Repository) -> list[OwnedChain]:
    """All whose newest point records whose it is. It looks at every VM of the repository."""
    gate = asyncio.Semaphore(LOADS)

    async def look(vm: VmId) -> OwnedChain | None:
        async with gate:
            newest = await repository.newest(vm)
            if newest is None:
                return None
            record = (await repository.load(vm, newest)).record
            identity = Identity.of(record.hardware)
            return OwnedChain(vm, record.vm_name, identity) if identity is not None else None

    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(look(vm)) for vm in await repository.vms()]
    return [one for task in looks if (one := task.result()) is not None]


async def chain_of(
    repository: Repository, vm: VmId, identity: Identity
) -> tuple[VmId | None, list[tuple[OwnedChain, str]]]:
    """For a machine whose ID has no chain: the chain that it was adopted into, if there is one; and those of other
    machines that it has something in common with, and what."""
    kin: list[tuple[OwnedChain, str]] = []
    for chain in await chains(repository):
        if chain.vm != vm and chain.identity.instance_uuid == identity.instance_uuid:
            return chain.vm, []
        if common := identity.kindred(chain.identity):
            kin.append((chain, common))
    return None, kin
