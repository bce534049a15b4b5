"""The errors a user can meet, each with its exit code; refuses anything that needs the rest of the package.

An error says what happened, where, and what to do about it, in one sentence. Anything that is not one of
these is a bug (exit code 1). docs/operations.md lists the exit codes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import ClassVar, Final

# The most telling code of several, worst first; one that is not here (a bug's 1) is worse than all.
_SEVERITY: Final = (5, 3, 8, 4, 2, 6, 7, 0)
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})  # what a file system says that takes no more


def by_hand(remedy: str) -> str:
    """What to do, as it is printed; the mark of what only a person can do, or a tool that is not ours. Every other
    remedy of a failover, a staging or a drill is done by a test, word for word (tests/suite/remedies.py)."""
    return remedy


def worst(codes: Iterable[int]) -> int:
    """The exit code that speaks for several; 0 for none."""
    return min(codes, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else -1, default=0)


def first_of(error: BaseException) -> WarmspareError:
    """The first of a group that holds nothing but expected errors, or of groups of these; or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WarmspareError), "the group has no others"
    return error


class WarmspareError(Exception):
    """Base of all expected errors.

    what: what went wrong, as a clause without a full stop.
    where: the object, file, disk or offset it concerns ("" where `what` says it already).
    hint: what to do about it, as a clause.
    retryable: whether the same command may succeed later with nothing changed by hand.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "bug"

    def __init__(self, what: str, *, where: str = "", hint: str = "", retryable: bool = False) -> None:
        self.what, self.where, self.hint, self.retryable = what, where, hint, retryable
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """The whole message in one sentence: what, where, what to do."""
        text = self.what + (f" ({self.where})" if self.where else "")
        return text + (f"; {self.hint}" if self.hint else "")

    def about(self, vm: str) -> None:
        """Let the sentence name the VM that it concerns, if it does not yet."""
        if not re.search(rf"\bVM ['\"]?{re.escape(vm)}(?![\w.-])", self.sentence):
            self.what = f"VM {vm}: {self.what}"
            self.args = (self.sentence,)

    def complete(self, short: str, whole: str) -> None:
        """Let the hint name a command with all its arguments."""
        self.hint = self.hint.replace(short, whole)
        self.args = (self.sentence,)


class ConfigError(WarmspareError):
    """Wrong arguments, settings or files named by them."""

    exit_code = 2
    kind = "config"


class SourceError(WarmspareError):
    """The protected disk could not be read, or changed while it was read."""

    exit_code = 3
    kind = "source"


class StoreError(WarmspareError):
    """The repository, a replica's medium or the state directory could not be read or written.

    action: what was refused or failed, as rights are named ("s3:DeleteObject", "kms:Decrypt"); "" where that is not
    known. denied: whether it failed for want of a right. object: the URI of what it concerns; code: the server's error
    code; each "" where there is none.
    """

    exit_code = 4
    kind = "store"
    denied: bool = False
    object: str = ""
    code: str = ""

    def __init__(
        self, what: str, *, where: str = "", hint: str = "", retryable: bool = False, action: str = ""
    ) -> None:
        super().__init__(what, where=where, hint=hint, retryable=retryable)
        self.action = action


class NotFoundError(StoreError):
    """An object that was asked for is not in the repository."""

    kind = "not-found"


class NoRoomError(StoreError):
    """A file system of this host is full, or a quota of it used up. Nothing else of it need be wrong."""


class IntegrityError(WarmspareError):
    """Bytes are not what a hash, a chain or an earlier run says they must be."""

    exit_code = 5
    kind = "integrity"


class FormatError(IntegrityError):
    """An object cannot be decoded: damaged, truncated, or of a version this program does not know."""

    kind = "format"


class LeaseError(WarmspareError):
    """Another sender works on this VM or committed first, or another run holds what this one needs.

    host, pid: of whoever holds the lease; until_s: when it runs out unless renewed, by the store's clock in seconds
    since 1970. "" and 0 where that is not known.
    """

    exit_code = 6
    kind = "lease"
    host: str = ""
    pid: int = 0
    until_s: float = 0.0


class RecoverError(WarmspareError):
    """AWS, or the machine of a rehearsal, did not do what recovery asked of it."""

    exit_code = 8
    kind = "recover"
