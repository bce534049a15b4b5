"""Events of any run: progress, what could not be cleared up, an end by a signal or an error."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from warmspare.errors import StoreError, WarmspareError
from warmspare.observe.event import Event, FleetEvent, Weight, note
from warmspare.observe.quantities import duration, size


class Progress(FleetEvent, frozen=True, kw_only=True, tag="progress"):
    """Each second."""

    bytes_read: int | UnsetType = UNSET
    bytes_changed: Annotated[int | UnsetType, note(description="sync")] = UNSET
    bytes_sent: Annotated[int | UnsetType, note(description="sync, copy; stage: put")] = UNSET
    bytes_written: Annotated[int | UnsetType, note(description="apply, export")] = UNSET
    bytes_total: int
    bytes_done: int
    seconds: float
    seconds_left: Annotated[float, note(description="-1: unknown")]

    def amounts(self) -> list[tuple[str, int]]:
        """What is counted in this run, by name."""
        counted = (
            ("read", self.bytes_read),
            ("changed", self.bytes_changed),
            ("sent", self.bytes_sent),
            ("written", self.bytes_written),
        )
        return [(name, count) for name, count in counted if count is not UNSET]

    def words(self) -> str:
        parts = ", ".join(f"{size(count)} {name}" for name, count in self.amounts())
        total = self.bytes_total
        share = f"{self.bytes_done / total:.0%} of {size(total)}" if total else "starting"
        left = f", {duration(self.seconds_left)} left" if self.seconds_left >= 0 else ""
        rate = size(self.bytes_done / self.seconds) if self.seconds else "0 B"
        return f"{share}: {parts}; {rate}/s{left}"


class Using(FleetEvent, frozen=True, kw_only=True, tag="using"):
    """`--verbose`: which configuration, repository or state is used, and where that was said."""

    usual = Weight.DETAIL

    what: Annotated[str, note(description="repository, server, configuration, state")]
    value: str
    source: Annotated[str, note(description="an option, WARMSPARE_…, the configuration, the usual place")]

    def words(self) -> str:
        return f"{self.what}: {self.value} (by {self.source})"


class StoreRetry(FleetEvent, frozen=True, kw_only=True, tag="store.retry"):
    """Requests to S3, EC2 or EBS have been failing for some seconds and are tried again; not more often than each
    10 s."""

    usual = Weight.WARNING

    message: str
    attempt: int
    seconds: float

    def words(self) -> str:
        return f"{self.message}; tried {self.attempt} times, trying on"


class HousekeepingWarning(FleetEvent, frozen=True, kw_only=True, tag="housekeeping.warning"):
    """Something could not be cleared up, or the index of VMs not be brought up to date. Once a run and action, near
    its end; the next run tries again."""

    usual = Weight.WARNING

    vm: Annotated[str | UnsetType, note(description="where there is one")] = UNSET
    action: Annotated[
        str,
        note(
            description="`s3:DeleteObject`, `s3:AbortMultipartUpload`, `s3:ListBucketMultipartUploads`, "
            "`ec2:DeleteSnapshot`, …; `unlink` in a repository or spool, `file:delete` in the state directory; "
            "`s3:PutObject`, `index:update` for the index of VMs"
        ),
    ]
    right: Annotated[str, note(description='what to grant, "" if that is not why')]
    object: Annotated[str, note(description="the first")]
    objects: Annotated[list[str] | UnsetType, note(description="all that are known one by one, at most 100")] = UNSET
    count: int
    message: str

    def words(self) -> str:
        return f"warning: {self.message}"


class Interrupted(Event, frozen=True, kw_only=True, tag="interrupted"):
    """After a signal: this is being taken back. Half a second after the signal, and each 10 s."""

    usual = Weight.WARNING

    what: str
    seconds: Annotated[float, note(description="so far")]
    within_seconds: Annotated[float, note(description="at most")]


class Error(Event, frozen=True, kw_only=True, tag="error"):
    """A run failed, or was interrupted."""

    ends = True
    usual = Weight.ALARM

    kind: Annotated[
        str,
        note(
            description="config, failed-over, source, store, not-found, integrity, format, boot, lease, recover, "
            "interrupted, bug"
        ),
    ]
    exit_code: int
    message: str
    what: str | UnsetType = UNSET
    where: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET
    retryable: bool
    action: Annotated[
        str | UnsetType, note(description="where the store refused one: `s3:PutObject`, `kms:Decrypt`")
    ] = UNSET
    left: Annotated[list[str] | UnsetType, note(description="interrupted: what was not taken back")] = UNSET

    @classmethod
    def of(cls, error: WarmspareError) -> Error:
        return cls(
            kind=error.kind,
            exit_code=error.exit_code,
            message=error.sentence,
            what=error.what,
            where=error.where,
            hint=error.hint,
            retryable=error.retryable,
            action=error.action if isinstance(error, StoreError) and error.action else UNSET,
        )


class WouldDo(Event, frozen=True, kw_only=True, tag="would"):
    """A dry run, of what has no event of its own for it: something that the same command would do without."""

    vm: Annotated[str, note(description='"" where it is of none')]
    action: str

    def words(self) -> str:
        return f"would {self.action}"


class WouldDone(Event, frozen=True, kw_only=True, tag="would.done"):
    """The end of such a dry run; nothing was changed."""

    ends = True

    count: Annotated[int, note(description="of `would`")]

    def words(self) -> str | None:
        return None if self.count else "there is nothing to do"
