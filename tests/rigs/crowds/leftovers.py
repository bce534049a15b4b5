"""What runs of this process hold, and what they leave in a repository and a state: nothing, once they are over."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rig import files_below
from rigs.crowds.crowd import open_files
from rigs.host.peak import process_tree
from warmspare.debts import PROCESS_DEBTS
from warmspare.store.contract import Store
from warmspare.store.lease import Holder

_OURS = f"{os.sep}warmspare{os.sep}"


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of this process, now. calls: what its threads, but for the one that asks, are in of the program. owed: what must
    be taken back."""

    files: int
    children: frozenset[int]
    calls: tuple[str, ...]
    tasks: frozenset[str]
    owed: tuple[str, ...]

    @classmethod
    async def look(cls) -> Holdings:
        await asyncio.sleep(0)  # a closed transport gives back its descriptor a step of the loop later
        pid = os.getpid()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return cls(
            files=open_files(),
            children=frozenset(process_tree(pid)) - {pid},
            calls=tuple(_calls()),
            tasks=frozenset(f"{task.get_name()} {task.get_coro()}" for task in tasks),
            owed=tuple(PROCESS_DEBTS.left),
        )

    def demand_no_more_than(self, before: Holdings) -> None:
        """AssertionError that says what is held now and was not before."""
        assert self.files <= before.files, (before.files, described())
        assert not self.children - before.children
        assert not self.calls and not self.owed, (self.calls, self.owed)
        assert not self.tasks - before.tasks, self.tasks - before.tasks


def described() -> Counter[str]:
    """What the descriptors of this process are of."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[str(path.readlink())] += 1
        except OSError:
            continue  # the one that lists them
    return found


def _calls() -> list[str]:
    """The innermost frames of the program's own that other threads are in."""
    found = []
    for number, frame in sys._current_frames().items():
        if number == threading.get_ident():
            continue
        here = frame
        while here is not None:
            if _OURS in here.f_code.co_filename and os.sep + "src" + os.sep in here.f_code.co_filename:
                found.append(f"{here.f_code.co_filename}:{here.f_lineno}")
                break
            here = here.f_back
    return found


async def held_leases(store: Store) -> list[str]:
    """Of VMs whose lease somebody holds."""
    found = []
    for key in [info.key async for info in store.list("vms/")]:
        if key.endswith("/lease.json"):
            holder = Holder.decode(await store.get(key))
            if holder is None or not holder.free:
                found.append(key)
    return found


def work_files(folder: Path) -> list[str]:
    """What lies in work areas below it: files that hold nothing that counts, and are to go with whoever wrote them."""
    return sorted(
        str(path.relative_to(folder))
        for path in files_below(folder)
        if any(mark in part for part in path.relative_to(folder).parts for mark in (".tmp", "tmp~", ".part"))
    )
