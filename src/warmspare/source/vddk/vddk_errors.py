"""What a VDDK's error codes mean for us: what to try next, and what to tell a person; owns no retrying.

The codes are VMware's (vixDiskLib.h and the programming guide); a VixError's low 16 bits.
"""

from __future__ import annotations

import re
from enum import Enum


class Action(Enum):
    """What may help. RECONNECT: a new connection. SHRINK: that, and smaller and fewer reads. WAIT: a new process, which
    resolves names again, after a longer while. FATAL: nothing that a program could do."""

    RECONNECT = "reconnect"
    SHRINK = "shrink"
    WAIT = "wait"
    FATAL = "fatal"


_RECONNECT = frozenset({14006, 14007, 14009, 14010, 14011})
_WAIT = frozenset({14008, 14014, 14015})
_SHRINK = frozenset({2})
_FATAL = frozenset(
    {
        3,
        4,
        6,
        13,
        20,
        35,
        3014,
        16000,
        16003,
        16007,
        16008,
        16011,
        16013,
        16014,
        16015,
        16016,
        16017,
        16030,
        16063,
        16064,
    }
)
# The calls of the library that log in, each time.
LOGINS = frozenset(
    {"VixDiskLib_Cleanup", "VixDiskLib_PrepareForAccess", "VixDiskLib_ConnectEx", "VixDiskLib_EndAccess"}
)
_REFUSED = frozenset({35, 3014})
_REFUSED_PERHAPS = frozenset({18000})
_SAYS_REFUSED = re.compile(r"log ?[io]n\b|password|authenticat|credential|account|\buser\b", re.IGNORECASE)
_HINTS = {
    2: "the ESXi host is short of memory for NFC: let fewer disks of one host be read at a time",
    4: "check the path of the disk and the snapshot",
    6: "this VDDK does not support it: use a version that matches the vCenter",
    13: "check the user's rights",
    3014: "check user, password and the user's rights on the VM",
    35: "check user and password",
    14008: "usually DNS: this machine must resolve the names of the ESXi hosts",
    14009: "often TCP port 902 to the ESXi host is blocked: open it",
    16008: "the disk's chain does not fit together: look at the VM's snapshots",
    16014: "the disk is encrypted; this user can't have its key",
    16064: "the host's licence does not allow it",
}


def classify(call: str, code: int, text: str) -> Action:
    """What may help after `call` failed with that code. A login that was refused is never tried again: accounts get
    locked that way."""
    said = text.lower()
    if code in _SHRINK or "failed to allocate" in said or "out of memory" in said:
        return Action.SHRINK
    if code in _WAIT:
        return Action.WAIT
    if code in _FATAL:
        return Action.FATAL
    if code in _RECONNECT or code == 0:
        return Action.RECONNECT
    return Action.FATAL if call in ("VixDiskLib_ConnectEx", "VixDiskLib_InitEx", "load") else Action.RECONNECT


def hint(code: int, call: str = "") -> str:
    """What to do about it, "" where the code does not say."""
    if (call, code) == ("VixDiskLib_Open", 1):
        return "usually the thumbprint is not that of the certificate; or the disk or its snapshot is gone"
    return _HINTS.get(code, "")


class ReaderError(Exception):
    """Something failed in or with the reader process. action: what may help."""

    action = Action.RECONNECT
    hint = ""


class CallFailed(ReaderError):
    """The library answered a call with an error."""

    def __init__(self, call: str, code: int, text: str = "") -> None:
        self.call, self.code, self.text = call, code, text
        self.action, self.hint = classify(call, code, text), hint(code, call)
        if code == 0:  # vddk.pyx: "and gave no handle"
            super().__init__(f"{call} said that it succeeded {text}")
        else:
            super().__init__(f"{call} gave {code}" + (f" ({text.strip()})" if text.strip() else ""))

    @property
    def refused(self) -> bool | None:
        """Whether a login was refused; None: perhaps, or it did not get so far."""
        if self.call not in LOGINS or self.code <= 0:
            return False
        if self.code in _REFUSED or _SAYS_REFUSED.search(self.text):
            return True
        # Cleanup logs in only where there is something to clean up; what it means will be seen by the next call.
        return None if self.code in _REFUSED_PERHAPS and self.call != "VixDiskLib_Cleanup" else False


class ReaderDied(ReaderError):
    """The process that runs the library ended."""


class ReaderHung(ReaderError):
    """Nothing came for as long as we wait."""


class ReaderNonsense(ReaderError):
    """What came makes no sense."""
