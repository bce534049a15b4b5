"""vCenter's faults in our words: which mean that the connection failed, and which sentence a person reads; does
no I/O and no retrying."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Iterator

from pyVmomi import vim, vmodl

from warmspare.errors import ConfigError, SourceError, WarmspareError
from warmspare.vsphere.api import garbled
from warmspare.vsphere.api.oddities import type_name

# What is raised where the answer did not come, came cut off, or was somebody else's.
TROUBLE: tuple[type[Exception], ...] = (OSError, http.client.HTTPException, garbled.GarbledError)

# What says no to user or password, or to the account.
REFUSED: tuple[type[vmodl.MethodFault], ...] = (vim.fault.InvalidLogin, vim.fault.NoPermission)

_STATUS = re.compile(r"(\d{3}) ")


class AnswerLostError(Exception):
    """A call that must not simply be repeated was sent, perhaps, and its answer did not come."""


def hopeless(error: Exception) -> bool:
    """Whether trying again can't help: no such host, or the server answers that there is no vCenter, or sends on."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    status = _STATUS.match(str(error)) if isinstance(error, http.client.HTTPException) else None
    return status is not None and status[1][0] in "34"


def unsent(error: Exception) -> bool:
    """Whether the request certainly did not reach vCenter."""
    return isinstance(error, ConnectionRefusedError | socket.gaierror)


def unavailable(error: Exception) -> bool:
    """Whether whatever is before vCenter says that there is none at the moment."""
    status = _STATUS.match(str(error)) if isinstance(error, http.client.HTTPException) else None
    return status is not None and status[1] == "503"


def text(fault: BaseException) -> str:
    """One short clause of a fault or an error, without its class's package."""
    if isinstance(fault, garbled.GarbledError):
        return str(fault)
    kind = type_name(fault)
    message = _said(fault) or (str(fault) if isinstance(fault, TROUBLE) else "")
    message = garbled.clean(message).rstrip(".")
    return f"{message} ({kind})" if message and message != kind else kind


def _said(fault: BaseException) -> str:
    """vCenter's own words; where it gives none for the fault itself, those of its parts or its cause."""
    parts = [fault, *(getattr(fault, "faultMessage", None) or ()), getattr(fault, "faultCause", None)]
    for part in parts:
        for message in (getattr(part, "msg", None), getattr(part, "message", None)):
            if isinstance(message, str) and message.strip():
                return message
    return ""


def as_error(what: str, fault: vmodl.MethodFault, where: str) -> WarmspareError:
    """The error for a fault that nothing more particular was done about. what: "reading the VM"."""
    if isinstance(fault, vim.fault.NoPermission):
        told = fault.privilegeId
        privilege = told if isinstance(told, str) and told else "a privilege"
        return ConfigError(
            f"{what} was refused: the user lacks {privilege}",
            where=where,
            hint="docs/rights.md lists the privileges; `warmspare doctor` checks them",
        )
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
        return SourceError(
            f"{what} failed: it is no longer in vCenter's inventory", where=where, hint="look whether it was deleted"
        )
    return SourceError(
        f"{what} failed: {text(fault)}",
        where=where,
        hint="vCenter's task list may say more; nothing was published",
        retryable=True,
    )


@contextlib.contextmanager
def told(what: str, where: str) -> Iterator[None]:
    """Inside it a fault becomes the package's error."""
    try:
        yield
    except vmodl.MethodFault as fault:
        raise as_error(what, fault, where) from None
