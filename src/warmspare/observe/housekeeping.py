"""What a run clears up and could not: one warning an action, told when the run ends; never an error of the work.

What is cleared up (objects of dead runs, uploads, marks, expired EBS snapshots, images, files of this host) is of no
use to anybody any more. So the result of the work stands, and whoever asks for it sees to it that the next run knows
what is left to be removed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from msgspec import UNSET

from warmspare.errors import RecoverError, StoreError, WarmspareError
from warmspare.observe.events import Events
from warmspare.observe.kinds.run_events import HousekeepingWarning

LOCAL = "file:delete"  # the action, where it is a file or a directory of this host
MOST_NAMED, MOST_SAID = 100, 4  # objects of an action: in the event; in its sentence
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(slots=True)
class _Failure:
    """The first of an action; how many there were, and which, as far as they are known one by one."""

    action: str
    where: str
    why: str
    right: str
    verb: str = "cleared up"
    count: int = 0
    objects: list[str] = field(default_factory=list)


def denied_by_file(error: Exception) -> bool:
    """Whether this host's file system does not let us: by the error, or by what it was made from."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DENIED


def denied_by_store(error: Exception) -> bool:
    """The same of a repository's store, be it a server or a directory of this host."""
    return getattr(error, "denied", False) or denied_by_file(error)


@dataclass(frozen=True, slots=True)
class Trying:
    """The block of `Housekeeping.trying`."""

    housekeeping: Housekeeping
    action: str
    where: object
    denied: Callable[[Exception], bool]
    right: str
    verb: str

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, WarmspareError | OSError):
            return False
        self.housekeeping.caught(self, error)
        return True


class Housekeeping:
    """Of one run. As a context manager it tells what failed when the block is left, however that is. vm: "" for none.

    `gave_up` lets whoever asks a server stop at the first refusal: it costs one request a run then, and not one an
    object.
    """

    def __init__(self, events: Events, vm: str = "") -> None:
        self._events, self._vm = events, vm
        self._failures: dict[str, _Failure] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell()

    def failed(self, action: str, where: object, why: str = "", *, right: str = "", count: int = 1) -> None:
        """Take note. where: what could not be cleared up. why: a clause. right: what to grant, or ""."""
        failure = self._failures.setdefault(action, _Failure(action, str(where), why, right))
        failure.count += count
        if str(where) not in failure.objects and len(failure.objects) < MOST_NAMED:
            failure.objects.append(str(where))

    def lacks(self, action: str) -> str:
        """The right that it failed for in this run, if it did."""
        return self._failures[action].right if action in self._failures else ""

    def gave_up(self, action: str) -> bool:
        """Whether it failed in this run already."""
        return action in self._failures

    def trying(
        self,
        action: str,
        where: object,
        *,
        denied: Callable[[Exception], bool] = denied_by_file,
        right: str = "",
        verb: str = "cleared up",
    ) -> Trying:
        """Clear something up in a `with` block: an error inside becomes a warning. denied: whether an error means a
        missing right. right: its name, where that is not the action's. verb: what could not be done."""
        return Trying(self, action, where, denied, right, verb)

    def caught(self, trying: Trying, error: WarmspareError | OSError) -> None:
        """Take note of what a block failed with."""
        why = error.what if isinstance(error, WarmspareError) else error.strerror or str(error)
        if isinstance(error, RecoverError) and error.hint:  # of AWS each refusal has a remedy of its own
            why += f"; {error.hint}"
        where = str(trying.where)
        # A server may name another than was asked for.
        name = error.action if isinstance(error, StoreError) and error.action else trying.action
        lacks = (trying.right or ("write access" if name == LOCAL else name)) if trying.denied(error) else ""
        if trying.action not in self._failures:
            self._failures[trying.action] = self._failures.setdefault(
                name, _Failure(name, where, why, lacks, trying.verb)
            )
        self.failed(trying.action, where)

    def tell(self) -> None:
        """Emit what there is, and forget it."""
        failures, self._failures = {id(one): one for one in self._failures.values()}, {}
        for failure in failures.values():
            named = ", ".join(failure.objects[:MOST_SAID])
            more = failure.count - len(failure.objects[:MOST_SAID])
            what = f"{named} and {more} more" if more else named
            grant = f"; grant {failure.right}" if failure.right else ""
            self._events.emit(
                HousekeepingWarning(
                    vm=self._vm or UNSET,
                    action=failure.action,
                    right=failure.right,
                    object=failure.where,
                    objects=failure.objects,
                    count=failure.count,
                    message=f"{what} could not be {failure.verb} ({failure.action}): {failure.why}{grant}; the next "
                    "run tries again",
                )
            )
