"""The options that several commands share, and how their words become values; owns no behaviour.

What a request of the engine takes is a value; what a person writes is a text. The functions here are the way from one
to the other, and raise ConfigError where there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from warmspare.cli.command_parser import Option, fields_of
from warmspare.cli.environment import SETTINGS, setting
from warmspare.cli.telling.tone import FORMS, Tone, chosen_tone
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.config.s3_settings import S3Settings
    from warmspare.engine.repository_place import RepositoryPlace
    from warmspare.engine.wiring.readable_disks import DisksChoice
    from warmspare.observe.kinds.run_events import Using

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
        "--repo",
        "-r",
        metavar="URI",
        help="The repository: s3://BUCKET/PREFIX, file:///PATH or a path (WARMSPARE_REPO).",
        complete="folder",
        setting="REPO",
    ),
]
Endpoint = Annotated[
    str | None,
    Option(
        "--endpoint-url",
        metavar="URL",
        help="The S3 server, where it is not Amazon's own (WARMSPARE_ENDPOINT_URL).",
        setting="ENDPOINT_URL",
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
        setting="CONFIG",
    ),
]
At = Annotated[
    str | None,
    Option(
        "--at",
        metavar="POINT",
        help="A restore point by number or label, or the newest that is not younger than a time: 2026-11-30T14:00 "
        "(local time), 2026-11-30T14:00Z, 2026-11-30 (its end), '2h ago', 'yesterday 14:00' (default: the newest).",
        complete="point",
    ),
]
SenderState = Annotated[
    Path | None,
    Option(
        "--state",
        metavar="DIR",
        help="Where the sender keeps its local state (WARMSPARE_STATE).",
        complete="folder",
        setting="STATE",
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
Level = Annotated[
    str,
    Option(
        "--level",
        metavar="N|auto",
        help="zstd level 1 to 9, or follow the bottleneck.",
        complete="auto 1 2 3 4 5 6 7 8 9",
    ),
]
Firmware = Annotated[
    str | None,
    Option("--firmware", metavar="KIND", help="bios or uefi (default: as the VM has).", complete="bios uefi"),
]
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
RequestId = Annotated[
    str | None,
    Option(
        "--request-id",
        metavar="TEXT",
        help="What this run is called: where a restore point was made under that name already, do nothing: of a retry.",
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

    quiet: Annotated[
        bool, Option("--quiet", "-q", help="Tell only warnings, findings, errors, and what was asked for.")
    ] = False
    verbose: Annotated[
        bool, Option("--verbose", "-v", help="Tell more: also what is used, and where that was said.")
    ] = False
    output: Annotated[
        str | None,
        Option(
            "--output",
            metavar="FORMAT",
            help="table (for people; the default), json (one document, at the end), or jsonl (a line an event).",
            complete=" ".join(FORMS),
        ),
    ] = None
    json: Annotated[
        bool, Option("--json", help="Write events as JSON Lines to stdout and nothing else: --output jsonl.")
    ] = False
    debug: Annotated[bool, Option("--debug", help="Show a traceback where something fails.")] = False

    def tone(self) -> Tone:
        """How it is to be told. ConfigError."""
        endless = bool(getattr(self, "follow", False))
        return chosen_tone(self.output, json=self.json, quiet=self.quiet, verbose=self.verbose, endless=endless)

    def idle(self) -> set[str]:
        """The fields that have no meaning beside what else is given, also where the environment has them."""
        return set()

    def used(self) -> list[Using]:
        """What is used of those that the environment may say too, and where it was said."""
        from warmspare.observe.kinds.run_events import Using

        found: list[Using] = []
        for field in fields_of(type(self)):
            name = field.option.setting
            if not name or field.name in self.idle():
                continue
            given = getattr(self, field.name)
            value = str(given or setting(name) or self.usual(name) or "")
            if value and not ("@" in value and "://" in value):  # such a URI is refused, without repeating it
                source = field.title if given else f"WARMSPARE_{name}" if setting(name) else "the usual place"
                found.append(Using(what=SETTINGS[name], value=value, source=source))
        return found

    def usual(self, name: str) -> Path | None:
        """Where something is that neither an option nor the environment names; None where that is not known here."""
        from warmspare.engine.host_places import config_path, state_root

        try:
            return config_path(None) if name == "CONFIG" else state_root() if name == "STATE" else None
        except ConfigError:  # there is no home; whoever needs it says so
            return None


class RepositoryOptions(Told):
    """Of a command that works on a repository, or on one that a plan, a replica or the configuration names."""

    repo: Repo = None
    config: Config = None
    endpoint_url: Endpoint = None
    s3: S3 = []  # noqa: RUF012 (never changed)

    def idle(self) -> set[str]:
        return {"config"}  # where it is used, whoever uses it says so

    def repository(self) -> RepositoryPlace:
        """Without a URI where none is named: then it is the configuration's."""
        from warmspare.engine.repository_place import RepositoryPlace

        uri = self.repo or setting("REPO") or ""
        url = endpoint(self.endpoint_url) if uri else self.endpoint_url  # the configuration has its own
        return RepositoryPlace(uri, endpoint_url=url, s3=site(self.s3), config=config_file(self.config))


class HeldOptions(RepositoryOptions):
    """Of a command that reads a replica, or a restore point without one."""

    replica: HeldReplica = None
    at: At = None
    state: ReplicaState = None

    def idle(self) -> set[str]:
        return {"config", "repo"} if self.replica is not None and not self.repo else {"config"}

    def disks(self, vm: str) -> DisksChoice:
        from warmspare.engine.wiring.readable_disks import DisksChoice

        named = self.repository()
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


def ahead(text: str | None, option: str) -> float | None:
    """Unix seconds of a day (its end), of a time, by the local clock where it names no other, or in how long.
    ConfigError for what is none."""
    from warmspare.config import values
    from warmspare.model.named_moment import named_moment

    if text is None:
        return None
    try:
        return time.time() + values.duration(text)
    except ConfigError:
        found = named_moment(text, time.time())
    if found is None:
        hint = 'write "2027-06-30", "2027-06-30T18:00", or in how long: "90d"'
        raise ConfigError(f"a date or a time was expected, not {text[:40]!r}", where=option, hint=hint)
    return found


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
