"""How a sync that published ends on the command line: its last event and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.source.base import Machine
    from warmspare.sync.pipeline import SyncResult

UNPROTECTED = 7


def finished(machine: Machine, result: SyncResult, events: Events) -> int:
    """Say what a sync did; its exit code."""
    events.emit(
        "sync.done", vm=machine.vm_id, point=result.point.label, parent=result.parent.label if result.parent else None,
        bytes_read=result.bytes_read, bytes_changed=result.bytes_changed, bytes_sent=result.bytes_sent,
        seconds=round(result.seconds, 3), findings=result.findings, unprotected=result.unprotected,
    )  # fmt: skip
    return UNPROTECTED if result.unprotected else 0
