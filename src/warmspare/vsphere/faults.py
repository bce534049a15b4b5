"""vCenter's faults in our words: which mean that the connection failed, and which sentence a person reads; does
no I/O and no retrying."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Iterator
from xml.parsers.expat import ExpatError

from pyVmomi import vim, vmodl

from warmspare.errors import ConfigError, SourceError, WarmspareError

# What pyVmomi raises where the answer did not come, or came cut off.
TROUBLE: tuple[type[Exception], ...] = (OSError, http.client.HTTPException, ExpatError)

# What says no to user or password, or to the account.
REFUSED: tuple[type[vmodl.MethodFault], ...] = (vim.fault.InvalidLogin, vim.fault.NoPermission)

_STATUS = re.compile(r"(\d{3}) ")


class AnswerLostError(Exception):
    """A call that must not simply be repeated was sent, perhaps, and its answer did not come."""


def hopeless(error: Exception) -> bool:
    """Whether trying again can't help: no such host, or the server answers that there is no vCenter."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    status = _STATUS.match(str(error)) if isinstance(error, http.client.HTTPException) else None
    return status is not None and status[1].startswith("4")


def unsent(error: Exception) -> bool:
    """Whether the request certainly did not reach vCenter."""
    return isinstance(error, ConnectionRefusedError | socket.gaierror)


def unavailable(error: Exception) -> bool:
    """Whether whatever is before vCenter says that there is none at the moment."""
    status = _STATUS.match(str(error)) if isinstance(error, http.client.HTTPException) else None
    return status is not None and status[1] == "503"


def text(fault: BaseException) -> str:
    """One short clause of a fault or an error, without its class's package."""
    kind = type(fault).__name__.rpartition(".")[2]
    message = getattr(fault, "msg", None) or (str(fault) if isinstance(fault, TROUBLE) else "")
    message = " ".join(str(message).split()).rstrip(".")[:300]
    return f"{message} ({kind})" if message and message != kind else kind


def as_error(what: str, fault: vmodl.MethodFault, where: str) -> WarmspareError:
    """The error for a fault that nothing more particular was done about. what: "reading the VM"."""
    if isinstance(fault, vim.fault.NoPermission):
        privilege = getattr(fault, "privilegeId", None) or "a privilege"
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
