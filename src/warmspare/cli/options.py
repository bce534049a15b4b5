"""The options that several commands share, and the checks of their values; owns no behaviour."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.config.s3_settings import S3Settings
    from warmspare.observe.events import Events
    from warmspare.source.logins import Logins
    from warmspare.store.s3.manner import Site

Vm = Annotated[str, typer.Option("--vm", metavar="NAME", help="What the VM is called in the repository.")]
Repo = Annotated[
    str, typer.Option("--repo", metavar="URI", help="The repository: s3://BUCKET/PREFIX, file:///PATH or a path.")
]
Vms = Annotated[
    list[str] | None,
    typer.Option(
        "--vm", metavar="NAME", help="What the VM is called in the repository; without disks, in the configuration."
    ),
]
OneVm = Annotated[str | None, typer.Option("--vm", metavar="NAME", help="Only this VM; otherwise all there are.")]
DisksRepo = Annotated[
    str | None, typer.Option("--repo", metavar="URI", help="For disks: s3://BUCKET/PREFIX, file:///PATH or a path.")
]
Vddk = Annotated[
    Path | None,
    typer.Option("--vddk", metavar="DIR", help="VMware's VDDK, unpacked: reads the disks given as vddk:///PATH."),
]
SenderState = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where the sender keeps its local state.")
]
ReplicaState = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Where the replica's state is kept (default: beside it)."),
]
HeldReplica = Annotated[
    Path | None,
    typer.Option("--replica", metavar="PATH", help="The replica: as `apply --to` made it. It is only read."),
]
HeldRepo = Annotated[
    str | None,
    typer.Option("--repo", metavar="URI", help="The repository; with --replica, if not where that came from."),
]
HeldAt = Annotated[
    str | None,
    typer.Option("--at", metavar="POINT", help="A restore point (default: the newest); not with --replica."),
]
Firmware = Annotated[
    str | None, typer.Option("--firmware", metavar="KIND", help="bios or uefi (default: as the VM has).")
]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint-url", metavar="URL", help="The S3 server, where it is not Amazon's own."),
]
SingleSender = Annotated[
    bool,
    typer.Option(
        "--single-sender",
        help="No other host sends there: for a server that does not keep conditional writes.",
    ),
]
S3 = Annotated[
    list[str] | None,
    typer.Option(
        "--s3",
        metavar="KEY=VALUE",
        help="What the S3 server's site demands, as the configuration has it: encryption, kms_key, bucket_key, "
        "checksum, addressing, requester_pays, sign_payload.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The configuration (default: /etc/warmspare/warmspare.toml or the user's own)."
    ),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="NAME", help="The AWS region (default: the environment's).")
]
BootDisk = Annotated[
    str | None,
    typer.Option(
        "--boot-disk",
        metavar="DISK",
        help="Name or ID of the disk that boots (default: the VM's boot order, else its first).",
    ),
]
Limit = Annotated[
    str | None,
    typer.Option("--limit", metavar="RATE", help="Send no faster, all syncs of this host together: 20mbit, or 2.5MB."),
]
New = Annotated[
    bool, typer.Option("--new", help="Begin the VM's chain of restore points: for its first sync to a repository.")
]
Adopt = Annotated[
    bool,
    typer.Option(
        "--adopt", help="Without disks: go on in the chain of another VM, which this one takes the place of. Said once."
    ),
]
DrillRecords = Annotated[
    Path | None,
    typer.Option("--records", metavar="DIR", help="Where drills are recorded, in a chain (default: with the state)."),
]
Json = Annotated[bool, typer.Option("--json", help="Write events as JSON Lines to stdout and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]


def check_endpoint(url: str | None) -> str | None:
    """The URL itself; ConfigError, without repeating it, if it holds credentials or is none."""
    from warmspare.config import values  # here: not every command has one

    return None if url is None else values.check_endpoint(url)


def site(pairs: list[str] | tuple[str, ...] | None) -> Site | None:
    """What `--s3` says; None where it is not given. ConfigError if it is wrong."""
    from warmspare.config import s3_settings

    return site_of(s3_settings.parse(pairs)) if pairs else None


def site_of(settings: S3Settings) -> Site:
    """The configuration's words as the store takes them."""
    from dataclasses import asdict

    from warmspare.store.s3.manner import Site  # here: a run on a directory must not pay for the AWS client

    return Site(**asdict(settings))


def state_root() -> Path:
    """Where a sender keeps its state: $XDG_STATE_HOME/warmspare, ~/.local/state/warmspare, or
    /var/lib/warmspare for root."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "warmspare"
    if os.geteuid() == 0:
        return Path("/var/lib/warmspare")
    return _home("XDG_STATE_HOME") / ".local" / "state" / "warmspare"


def _home(instead: str) -> Path:
    """The user's home directory. instead: the variable that names what is looked for there. ConfigError where neither
    the environment nor the system knows one: in a container, say."""
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError("this user has no home directory", hint=f"set {instead}, or HOME") from None


def state_folder(*names: str, root: Path | None = None) -> Path:
    """A folder of the state directory, or of another root, that need not be there yet. StoreError if a link stands on
    the way to it, which would lead elsewhere."""
    from warmspare.outside.regular_files import demand_folders
    from warmspare.state.local_files import STATE_DIRECTORY, local_io

    root = root or state_root()
    folder = root.joinpath(*names)
    with local_io(STATE_DIRECTORY, folder):
        demand_folders(root, folder)
    return folder


def drill_records(given: Path | None) -> Path:
    """The directory of drill records."""
    return given if given is not None else state_folder("drill-records")


def shared_logins(events: Events, *, again: bool = False) -> Logins:
    """What this command's sessions share of their accounts, with other processes of the host too. In the default state
    directory, whatever --state says. again: try what was refused before."""
    from warmspare.source.logins import Logins
    from warmspare.state.notes import Notes

    return Logins(Notes(state_root() / "logins"), events, again=again)


def config_path(given: Path | None) -> Path:
    """The configuration: the one that was given, /etc/warmspare/warmspare.toml for root, or
    $XDG_CONFIG_HOME/warmspare/warmspare.toml (~/.config/warmspare/warmspare.toml)."""
    if given is not None:
        return given
    if os.geteuid() == 0:
        return Path("/etc/warmspare/warmspare.toml")
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else _home("XDG_CONFIG_HOME") / ".config"
    return folder / "warmspare" / "warmspare.toml"
