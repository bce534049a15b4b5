"""Whether a sync may begin the chain of its VM; owns the refusal of one that nobody meant.

A mistyped VM or repository has no restore points either: what begins there in silence is a full upload that nobody
looks for, while the VM that was meant gets older.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from enum import Enum

from warmspare.errors import ConfigError
from warmspare.repository.chain import Repository
from warmspare.sync.local import LocalState

LOOK_S = 10.0  # for names that are near, where a repository is large
NEAR = 3


class Start(Enum):
    """What is said of the chain.

    GO_ON: it is there, or this host's state says that its first sync was begun on purpose. NEW: it is to be begun.
    OWN: it may be begun, because the VM's ID was not typed: vCenter gave it.
    """

    GO_ON = "go on"
    NEW = "new"
    OWN = "own"


async def refuse_unsaid(start: Start, repository: Repository, vm: str, local: LocalState) -> None:
    """ConfigError where the chain would begin and nobody said so, or was said to begin and is there. Nothing is
    written; where this host has seen the chain, nothing is asked either."""
    seen = local.seen()
    if start is not Start.NEW and (seen or local.begun() or start is Start.OWN):
        return
    newest = await repository.newest(vm)
    if start is Start.NEW:
        if newest is not None:
            raise there_already(repository, vm, newest)
    elif newest is None:
        raise ConfigError(
            f"VM {vm!r} has no restore points in this repository",
            where=repository.store.uri,
            hint=f"check --vm and --repo: {await _hint(repository, vm, local)}; --new begins its chain here",
        )


def there_already(repository: Repository, vm: str, newest: int) -> ConfigError:
    """The error of a chain that was said to begin and is there."""
    return ConfigError(
        f"the chain of VM {vm!r} has begun already: it has restore points up to number {newest} here",
        where=repository.store.uri,
        hint="leave out --new, which is said once, or give another --vm",
    )


async def _hint(repository: Repository, vm: str, local: LocalState) -> str:
    """What the user may have meant."""
    if elsewhere := local.elsewhere():
        return f"this host has synced it to {', '.join(elsewhere[:NEAR])}"
    known: dict[str, str] = {}
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


def near(vm: str, known: dict[str, str]) -> list[str]:
    """The VMs whose IDs or names are like this one, nearest first, as people see them. known: names by ID."""
    given = vm.casefold()
    scored = []
    for name, called in known.items():
        words = [word.casefold() for word in (name, called) if word]
        score = max(difflib.SequenceMatcher(None, given, word).ratio() for word in words)
        if score >= 0.6 or any(word.startswith(given) or given.startswith(word) for word in words):
            scored.append((-score, repr(name) + (f" (called {called!r})" if called not in ("", name) else "")))
    return [text for _, text in sorted(scored)[:NEAR]]
