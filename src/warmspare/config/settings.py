"""What the configuration says, as values with every default filled in; refuses to read anything.

docs/operations.md has the table of keys. Durations are in seconds here and names are resolved.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warmspare.config.disks import DiskSelection
from warmspare.config.problems import ConfigPlace
from warmspare.config.retention_settings import RetentionSettings
from warmspare.config.s3_settings import S3Settings
from warmspare.config.secret import Secret
from warmspare.config.timetable import Timetable
from warmspare.errors import ConfigError

Quiesce = Literal["try", "require", "never"]
FullCompare = Literal["auto", "always", "error"]
FindBy = Literal["path", "instance_uuid", "name", "folder", "tag"]


@dataclass(frozen=True, slots=True)
class VCenter:
    """A vCenter (or a single ESXi host) and how it is reached.

    thumbprint: SHA-256 of the certificate, 64 lower-case hex digits. ca_file: PEM. Neither: the system's CAs.
    vddk: the directory VDDK was unpacked to. transport: modes in order of preference.
    """

    name: str
    place: ConfigPlace = field(compare=False, repr=False)
    host: str
    user: str
    password: Secret
    port: int
    thumbprint: str | None
    ca_file: Path | None
    vddk: Path
    vddk_config: Path | None
    transport: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StagedPlace:
    """Where restore points are staged in EC2. region, profile: None where the AWS environment decides."""

    region: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where restore points go. Credentials come from the AWS environment or the profile, never from the file.

    place: of the URI, for what the store says of it. limit: how fast it may be sent to. s3: what its site demands.
    single_sender: this host alone sends there, so a server will do that does not keep conditional writes. staged: where
    what is staged of it stands, None where that is not said.
    """

    name: str
    place: ConfigPlace = field(compare=False, repr=False)
    uri: str
    endpoint_url: str | None
    region: str | None
    profile: str | None
    limit: Timetable
    s3: S3Settings = field(default_factory=S3Settings)
    single_sender: bool = False
    staged: StagedPlace | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """How a VM is found, or several. value: an inventory path, a UUID in lower case, a name or a tag."""

    by: FindBy
    value: str

    @property
    def several(self) -> bool:
        """Whether it may mean more than one VM."""
        return self.by in ("folder", "tag")

    def __str__(self) -> str:
        return f"{self.by} {self.value}"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a VM is protected.

    level: zstd's, None to follow the bottleneck. state: None for the usual directory of this user.
    max_snapshot_age_s: None for no bound. spool: where packs wait for the link, None: nowhere. spool_bytes: of all that
    waits there, None for all that the file system has. audit_period_s: in which a rolling audit covers all of a disk, 0
    for none. retention: which restore points are kept; by default all.
    """

    disks: DiskSelection = field(default_factory=DiskSelection)
    quiesce: Quiesce = "try"
    full_compare: FullCompare = "auto"
    snapshot_name: str = "Karma Sync"
    level: int | None = None
    state: Path | None = None
    rpo_s: int = 900
    max_snapshot_age_s: int | None = None
    spool: Path | None = None
    spool_bytes: int | None = None
    audit_period_s: int = 7 * 86400
    retention: RetentionSettings = field(default_factory=RetentionSettings)


@dataclass(frozen=True, slots=True)
class Vm:
    """One `[vm.NAME]`: a VM, or the several VMs that a folder or a tag means."""

    name: str
    place: ConfigPlace = field(compare=False, repr=False)
    vcenter: VCenter
    repository: RepositorySettings
    find: Find
    policy: Policy


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """How much is done at once. per_host: VMs on one ESXi host."""

    vms_at_once: int = 4
    per_host: int = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """One file. Everything in it is in the file's order."""

    path: Path
    vcenters: tuple[VCenter, ...]
    repositories: tuple[RepositorySettings, ...]
    vms: tuple[Vm, ...]
    limits: FleetLimits

    def vm(self, name: str) -> Vm:
        """The `[vm.NAME]` of that name. ConfigError with the nearest name if there is none."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        hint = suggest(name, [vm.name for vm in self.vms]) or "`warmspare config check` shows what there is"
        raise ConfigError(f"there is no VM {name!r} in the configuration", where=str(self.path), hint=hint)

    def repository(self, name: str) -> RepositorySettings:
        """The `[repository.NAME]` of that name. ConfigError with the nearest name if there is none."""
        for repository in self.repositories:
            if repository.name == name:
                return repository
        hint = suggest(name, [one.name for one in self.repositories]) or "`warmspare config check` shows what there is"
        raise ConfigError(f"there is no repository {name!r} in the configuration", where=str(self.path), hint=hint)

    def secrets(self) -> Iterator[Secret]:
        """Every secret that a run might need."""
        for vcenter in self.vcenters:
            yield vcenter.password


def suggest(given: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint that names the nearest known word; nothing where none is near."""
    near = difflib.get_close_matches(given.casefold(), [word.casefold() for word in known], n=1)
    words = [word for word in known if near and word.casefold() == near[0]]
    return f"did you mean {words[0]}" if words else ""
