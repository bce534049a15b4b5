"""Whether a sync may begin the chain of its VM; owns the refusal of one that nobody meant.

A mistyped VM or repository has no restore points either: what begins there in silence is a full upload that nobody
looks for, while the VM that was meant gets older.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from enum import Enum
from pathlib import Path

from warmspare.errors import ConfigError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.source_events import SourceWarning
from warmspare.observe.kinds.sync_events import VmMoved
from warmspare.repository.chain import Point, Repository
from warmspare.repository.chain_owner import Settled, chain_of, settle
from warmspare.source.given import GivenDisks
from warmspare.source.identity import Identity
from warmspare.source.ports import Machine, Named
from warmspare.sync.local.local_state import LocalState
from warmspare.threads import in_thread

LOOK_S = 10.0  # for names that are near, where a repository is large
NEAR = 3


class ChainStart(Enum):
    """What is said of the chain.

    GO_ON: it is there, or this host's state says that its first sync was begun on purpose. NEW: it is to be begun.
    OWN: it may be begun, because the VM's ID was not typed: vCenter gave it. ADOPT: the machine goes on in a chain that
    is another's, as its newest point records it.
    """

    GO_ON = "go on"
    NEW = "new"
    OWN = "own"
    ADOPT = "adopt"


async def chain_for(
    start: ChainStart, repository: Repository, machine: Machine, state: Path, events: Events, *, retried: bool
) -> VmId:
    """The ID that the machine's chain has in the repository. ConfigError where the chain would begin and nobody said
    so, or was said to begin and is there. retried: it may be this request that has begun it, as its points will tell.
    Nothing is written; where this host has seen the chain, nothing is asked either."""
    vm = machine.vm_id
    local = LocalState(state, vm, repository, events)
    local.last()  # refuses a repository that was replaced
    if start is not ChainStart.NEW:
        if chain := local.adopted():
            return chain
        if local.seen() or (local.begun() and start is not ChainStart.ADOPT):
            return vm
    newest = await repository.newest(vm)
    if newest is not None:
        if start is ChainStart.NEW and not retried:
            raise there_already(repository, vm, newest)
        return vm
    if start is ChainStart.NEW:
        local.forget_adopted()
        return vm
    if start is ChainStart.GO_ON or machine.identity is None:
        if start is ChainStart.OWN:
            return vm
        raise ConfigError(
            f"VM {vm!r} has no restore points in this repository",
            where=repository.store.uri,
            hint=f"check --vm and --repo: {await _hint(repository, vm, local)}; --new begins its chain here",
        )
    return await _other_chain(start, repository, machine, machine.identity, local)


async def _other_chain(
    start: ChainStart, repository: Repository, machine: Machine, identity: Identity, local: LocalState
) -> VmId:
    """Of a machine whose ID is new to the repository."""
    adopted, kin = await chain_of(repository, machine.vm_id, identity)
    if adopted is not None:
        local.remember_adopted(adopted)
        return adopted
    if start is ChainStart.ADOPT:
        if len(kin) == 1:
            return kin[0][0].vm
        if not kin:
            raise ConfigError(
                f"there is no chain that VM {machine.vm_name!r} could go on in",
                where=repository.store.uri,
                hint="leave out --adopt",
            )
    if not kin:
        return machine.vm_id
    known = "; ".join(
        f"{one.vm} (called {one.name!r}, {one.identity.place}) has its {what}" for one, what in kin[:NEAR]
    )
    only = len(kin) == 1
    raise ConfigError(
        f"VM {machine.vm_name!r}, {identity.place}, is new by its ID {machine.vm_id}, and looks like one whose chain "
        f"is here: {known}",
        where=repository.store.uri,
        hint=("--adopt goes on in that chain, " if only else "it can't be adopted while there are several; ")
        + "--new begins one of its own",
    )


async def settled_in(
    start: ChainStart,
    repository: Repository,
    machine: Machine,
    vm: VmId,
    head: Point | None,
    local: LocalState,
    events: Events,
) -> Settled:
    """The machine is the one whose chain `vm` is, or takes its place; see repository/chain_owner.py."""
    adopt, other = start is ChainStart.ADOPT, vm != machine.vm_id
    try:
        settled = await settle(machine, head, adopt=adopt)
    except ConfigError:
        if other:  # what this host knows of an adoption may be out of date: the next run looks again
            local.of(machine.vm_id).forget_adopted()
        raise
    if adopt and not other and settled.moved is None:
        raise ConfigError(
            f"there is nothing to adopt: VM {machine.vm_name!r} is the one whose chain this is",
            where=repository.store.uri,
            hint="leave out --adopt, which is said once",
        )
    if settled.moved is not None:
        events.emit(
            VmMoved(
                vm=vm, before=str(settled.moved), now=str(settled.identity and settled.identity.place), adopted=adopt
            )
        )
    return settled


async def refuse_images(machine: Machine, head: Point | None, events: Events) -> None:
    """ConfigError where a given disk that is new to the chain is an image file in place of a disk's bytes, and nobody
    said that these are meant. One that the chain has is gone on with: a guest may have written that to its disk."""
    known = {disk.id for disk in head.record.disks} if head else set()
    for given in machine.disks if isinstance(machine, GivenDisks) else []:
        source = given.source
        image = await in_thread(source.image) if isinstance(source, Named) and not given.as_raw else None
        if image is None:
            continue
        if source.name not in known:
            raise ConfigError(
                f"disk {source.name!r} is {image.what}, and not the bytes of a disk",
                where=source.where,
                hint=f"{image.remedy}; --as-raw takes it as it is, for a VM whose disk really holds such an image",
            )
        events.emit(
            SourceWarning(
                message=f"disk {source.name!r} is {image.what}, and its restore points hold that as a disk's bytes: "
                f"nothing starts from it; {image.remedy}, and begin another chain, or say --as-raw, if the VM's disk "
                "really holds such an image",
            )
        )


def there_already(repository: Repository, vm: VmId, newest: int) -> ConfigError:
    """The error of a chain that was said to begin and is there."""
    return ConfigError(
        f"the chain of VM {vm!r} has begun already: it has restore points up to number {newest} here",
        where=repository.store.uri,
        hint="leave out --new, which is said once, or give another --vm",
    )


async def _hint(repository: Repository, vm: VmId, local: LocalState) -> str:
    """What the user may have meant."""
    if elsewhere := local.elsewhere():
        return f"this host has synced it to {', '.join(elsewhere[:NEAR])}"
    known: dict[VmId, str] = {}
    whole = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            for name in await repository.vms():
                known[name] = ""
            for name in known:
                newest = await repository.newest(name)
                known[name] = (await repository.load(name, newest)).record.vm_name if newest else ""
            whole = True
    if found := near(vm, known):
        return f"there is {' and '.join(found)}"
    if not whole:
        return f"it holds more VMs than could be looked at in {LOOK_S:.0f} s"
    return f"it holds {len(known)} VMs, none of them called like that" if known else "it holds no VM yet"


def near(vm: VmId, known: dict[VmId, str]) -> list[str]:
    """The VMs whose IDs or names are like this one, nearest first, as people see them. known: names by ID."""
    given = vm.casefold()
    scored = []
    for name, called in known.items():
        words = [word.casefold() for word in (name, called) if word]
        score = max(difflib.SequenceMatcher(None, given, word).ratio() for word in words)
        if score >= 0.6 or any(word.startswith(given) or given.startswith(word) for word in words):
            scored.append((-score, repr(name) + (f" (called {called!r})" if called not in ("", name) else "")))
    return [text for _, text in sorted(scored)[:NEAR]]
