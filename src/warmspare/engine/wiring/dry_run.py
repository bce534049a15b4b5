"""What a dry run says: each thing that would be done, and that nothing was."""

from __future__ import annotations

from collections.abc import Iterable

from warmspare.engine.request import RunContext
from warmspare.observe.kinds.run_events import WouldDo, WouldDone


def would(run: RunContext, actions: Iterable[str], vm: str = "") -> WouldDone:
    """Tell them, and that these are all. actions: clauses that go on after "would"."""
    steps = [WouldDo(vm=vm, action=action) for action in actions]
    done = WouldDone(count=len(steps))
    for event in (*steps, done):
        run.events.emit(event)
    return done
