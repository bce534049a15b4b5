"""The options that several commands share, and how their words become values; owns no behaviour.

What a request of the engine takes is a value; what a person writes is a text. The functions here are the way from one
to the other, and raise ConfigError where there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from warmspare.cli.command_parser import SEE_HELP, Option
from warmspare.cli.environment import setting
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.config.s3_settings import S3Settings
    from warmspare.engine.repository_place import RepositoryPlace
    from warmspare.engine.wiring.readable_disks import DisksChoice

T = TypeVar("T")

S3_HELP = (
    "What the S3 server's site demands, as the configuration has it: encryption, kms_key, bucket_key, checksum, "
    "addressing, requester_pays, sign_payload."
)

Vm = Annotated[str, Option("--vm", metavar="NAME", help="What the VM is called in the repository.", complete="vm")]
OneVm = Annotated[
    str | None, Option("--vm", metavar="NAME", help="Only this VM; otherwise all there are.", complete="vm")
]
Repo = Annotated[
    str | None,
    Option(
        "--repo", metavar="URI", help="The repository: s3://BUCKET/PREFIX, file:///PATH or a path (WARMSPARE_REPO)."
    ),
]
Endpoint = Annotated[
    str | None,
    Option(
        "--endpoint-url",
        metavar="URL",
        help="The S3 server, where it is not Amazon's own (WARMSPARE_ENDPOINT_URL).",
    ),
]
S3 = Annotated[list[str], Option("--s3", metavar="KEY=VALUE", help=S3_HELP)]
Region = Annotated[str | None, Option("--region", metavar="NAME", help="The AWS region (default: the environment's).")]
Profile = Annotated[str | None, Option("--profile", metavar="NAME", help="The AWS profile.")]
SingleSender = Annotated[
    bool,
    Option("--single-sender", help="No other host sends there: for a server that does not keep conditional writes."),
]
Config = Annotated[
    Path | None,
    Option(
        "--config",
        metavar="FILE",
        help="The configuration (WARMSPARE_CONFIG; default: /etc/warmspare/warmspare.toml or the user's own).",
        complete="file",
    ),
]
At = Annotated[
    str | None,
    Option(
        "--at",
        metavar="POINT",
        help="A restore point by number or label (default: the newest).",
        complete="point",
    ),
]
SenderState = Annotated[
    Path | None,
    Option(
        "--state", metavar="DIR", help="Where the sender keeps its local state (WARMSPARE_STATE).", complete="folder"
    ),
]
ReplicaState = Annotated[
    Path | None,
    Option(
        "--state",
        metavar="DIR",
        help="Where the replica's state is kept (default: beside it).",
        complete="folder",
    ),
]
HeldReplica = Annotated[
    Path | None,
    Option(
        "--replica",
        metavar="PATH",
        help="The replica: as `apply --to` made it. It is only read.",
        complete="file",
    ),
]
Limit = Annotated[
    str | None,
    Option("--limit", metavar="RATE", help="Send no faster, all syncs of this host together: 20mbit, or 2.5MB."),
]
Firmware = Annotated[str | None, Option("--firmware", metavar="KIND", help="bios or uefi (default: as the VM has).")]
BootDisk = Annotated[
    str | None,
    Option(
        "--boot-disk",
        metavar="DISK",
        help="Name or ID of the disk that boots (default: the VM's boot order, else its first).",
    ),
]
DrillRecords = Annotated[
    Path | None,
    Option(
        "--records",
        metavar="DIR",
        help="Where drills are recorded, in a chain (default: with the state).",
        complete="folder",
    ),
]
Repair = Annotated[bool, Option("--repair", help="Put right what is found wrong; otherwise nothing is written.")]
Sample = Annotated[
    str | None,
    Option("--sample", metavar="PERCENT", help="Judge this share of the blocks only, drawn anew each time."),
]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and change nothing.")]
LookFirst = Annotated[bool, Option("--dry-run", help="With --repair: say what is wrong, and leave it as it is.")]
Reports = Annotated[
    Path | None,
    Option(
        "--reports",
        metavar="DIR",
        help="Where reports are kept, in a chain (default: with the state).",
        complete="folder",
    ),
]
Html = Annotated[
    Path | None,
    Option("--html", metavar="FILE", help="Write the report as a page for a browser, too.", complete="file"),
]
Against = Annotated[
    list[Path],
    Option(
        "--against",
        metavar="FILE",
        help="What saw the repository before: a kept report, a sync's state.json, a replica's replica.json.",
        complete="file",
    ),
]

AsRaw = Annotated[
    bool, Option("--as-raw", help="The disks' bytes are meant as they are, though they look like an image file's.")
]
New = Annotated[
    bool, Option("--new", help="Begin the VM's chain of restore points: for its first sync to a repository.")
]
NotAfter = Annotated[
    str | None,
    Option(
        "--not-after",
        metavar="POINT",
        help="Do nothing where the chain has a newer restore point than this already: of a retry.",
        complete="point",
    ),
]
Adopt = Annotated[
    bool,
    Option(
        "--adopt",
        help="Without disks: go on in the chain of another VM, which this one takes the place of. Said once.",
    ),
]


class Told:
    """Of every command."""

    json: Annotated[bool, Option("--json", help="Write events as JSON Lines to stdout and nothing else.")] = False
    debug: Annotated[bool, Option("--debug", help="Show a traceback where something fails.")] = False


class RepositoryOptions(Told):
    """Of a command that works on a repository, or on one that a plan or a replica names."""

    repo: Repo = None
    endpoint_url: Endpoint = None
    s3: S3 = []  # noqa: RUF012 (never changed)

    def repository(self) -> RepositoryPlace:
        """ConfigError where none is named."""
        place = self.repository_if_named()
        if not place.uri:
            hint = f"give --repo URI, or set WARMSPARE_REPO; {SEE_HELP}"
            raise ConfigError("--repo is missing: the repository", hint=hint)
        return place

    def repository_if_named(self) -> RepositoryPlace:
        """Its URI is "" where it is not."""
        from warmspare.engine.repository_place import RepositoryPlace

        return RepositoryPlace(
            self.repo or setting("REPO") or "", endpoint_url=endpoint(self.endpoint_url), s3=site(self.s3)
        )


class HeldOptions(RepositoryOptions):
    """Of a command that reads a replica, or a restore point without one."""

    replica: HeldReplica = None
    at: At = None
    state: ReplicaState = None

    def disks(self, vm: str) -> DisksChoice:
        from warmspare.engine.wiring.readable_disks import DisksChoice

        named = self.repository_if_named()
        if self.replica is not None and not self.repo:
            from msgspec.structs import replace

            named = replace(named, uri="")  # it came from there, whatever the environment says
        return DisksChoice(vm=vm, replica=self.replica, repository=named, at=self.at, state=self.state)


def endpoint(given: str | None) -> str | None:
    """The S3 server; the engine checks it."""
    return given if given is not None else setting("ENDPOINT_URL")


def site(pairs: list[str]) -> S3Settings | None:
    """What `--s3` says; None where it is not given. ConfigError if it is wrong."""
    from warmspare.config import s3_settings

    return s3_settings.parse(pairs) if pairs else None


def config_file(given: Path | None) -> Path | None:
    """What is said of the configuration; None for the usual one."""
    return _path(given, "CONFIG")


def sender_state(given: Path | None) -> Path | None:
    """What is said of the local state; None for the usual directory."""
    return _path(given, "STATE")


def _path(given: Path | None, name: str) -> Path | None:
    """What an option says, or the environment."""
    named = setting(name)
    return given if given is not None or named is None else Path(named)


def rate(text: str | None) -> float | None:
    """Bytes a second of --limit; None where it is not given. ConfigError for anything that is no rate."""
    from warmspare.config import values

    return _value(values.rate, text, "--limit")


def level(text: str) -> int | None:
    """1 to 9, or None for `auto`. ConfigError for anything else."""
    if text == "auto":
        return None
    if text in [str(n) for n in range(1, 10)]:
        return int(text)
    raise ConfigError(f"the level {text!r} is neither a number from 1 to 9 nor auto", where="--level")


def seconds(text: str | None, option: str) -> int | None:
    """A time like 7d or 1h30m. ConfigError for one that is none."""
    from warmspare.config import values

    return _value(values.duration, text, option)


def moment(text: str | None, option: str, *, end: bool = False) -> float | None:
    """Unix seconds of a date or of a time ago. end: of a date, its end. ConfigError for what is none."""
    from warmspare.config import values

    return _value(lambda given: values.moment(given, time.time(), end=end), text, option)


def size(text: str | None, option: str) -> int | None:
    """Bytes of 200GB or 1.5TiB. ConfigError for a size that is none."""
    from warmspare.config import values

    return _value(values.size, text, option)


def _value(parse: Callable[[object], T], text: str | None, option: str) -> T | None:
    """What the configuration's words mean on the command line; ConfigError that names the option."""
    try:
        return None if text is None else parse(text)
    except ConfigError as error:
        raise ConfigError(error.what, where=option, hint=error.hint) from None


def percent(text: str | None) -> float | None:
    """Of --sample; None for all. ConfigError."""
    if text is None:
        return None
    from warmspare.audit.expected.sample import parse_percent  # here: it needs numpy

    return parse_percent(text)
