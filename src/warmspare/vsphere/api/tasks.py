"""Tasks of vCenter: waits for the end of one, bounded; refuses to start any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from pyVmomi import vmodl

from warmspare.errors import SourceError
from warmspare.vsphere.api.garbled import clean
from warmspare.vsphere.api.oddities import NotUnderstoodError
from warmspare.vsphere.api.session import VsphereSession

FIRST_POLL_S = 0.02  # most snapshots of a small VM take less than half a second
LAST_POLL_S = 2.0
RUNNING = ("queued", "running")
ENDED = ("success", "error")  # any other state may still be at work


class TaskGoneError(Exception):
    """vCenter no longer knows the task, for it was restarted, or tells of it what is not understood. What became of it
    must be looked at."""


async def finished(
    session: VsphereSession,
    task: Any,
    what: str,
    *,
    timeout_s: float,
    slow_s: float = 0.0,
    slow: Callable[[float], None] | None = None,
) -> Any:
    """The task's result; its fault is raised. slow: called once, when it has taken slow_s. SourceError when it has not
    ended after timeout_s (it runs on); TaskGoneError."""
    began, poll_s = time.monotonic(), FIRST_POLL_S
    while True:
        try:
            info = await session.call(what, lambda: task.info)
        except vmodl.fault.ManagedObjectNotFound:
            raise TaskGoneError("vCenter forgot the task") from None
        except NotUnderstoodError as error:
            raise TaskGoneError(error.said) from None
        state = info.state if isinstance(info.state, str) else "in no state"
        if state == "success":
            return info.result
        if state == "error":
            raise info.error if isinstance(info.error, vmodl.MethodFault) else vmodl.MethodFault()
        if state not in RUNNING:
            raise TaskGoneError(f"the task is {clean(state, 60)}, which is not known here")
        taken_s = time.monotonic() - began
        if slow is not None and taken_s >= slow_s:
            slow(taken_s)
            slow = None
        if taken_s >= timeout_s:
            raise SourceError(
                f"{what} has not ended after {taken_s:.0f} s",
                where=session.where,
                hint="look at the task in vCenter; it goes on there",
                retryable=True,
            )
        await asyncio.sleep(poll_s)
        poll_s = min(poll_s * 1.5, LAST_POLL_S)
