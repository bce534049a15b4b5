"""What a recovery plan says, as values with every default filled in; refuses to read files or to ask AWS.

docs/operations.md has the table of keys; engine/wiring/planfile.py reads the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from warmspare.store.s3.manner import Site

Via = Literal["register-image", "import-image"]
Ready = Literal["status-checks", "running", "none"]

TAG_IN_METADATA = re.compile(r"[0-9A-Za-z+=.,_:@-]{1,128}")
FAMILIES = ("m8i", "c8i", "r8i", "m8a", "c8a", "r8a", "m7i", "c7i", "r7i", "m6i", "c6i", "r6i")


@dataclass(frozen=True, slots=True)
class Network:
    """Where cards of a port group go. name: the port group; subnet: its ID; security_groups: their IDs."""

    name: str
    subnet: str
    security_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """How volumes are made. iops, throughput_mib_s: None for the type's own. initialization_mib_s: 100 to 300 for a
    provisioned rate, None for AWS's default. keep: whether they outlive the instance. place: where that stands in the
    plan, "" where it does not."""

    type: str = "gp3"
    iops: int | None = None
    throughput_mib_s: int | None = None
    initialization_mib_s: int | None = None
    keep: bool = True
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an instance's metadata service (IMDS) does. v1: whether it also answers who asks without a token. tags:
    whether it tells the instance's tags."""

    v1: bool = False
    tags: bool = True


def fits_metadata(key: str) -> bool:
    """Whether an instance whose metadata tells its tags may have a tag of that key. AWS documents: "View tags for your
    EC2 instances using instance metadata"."""
    return TAG_IN_METADATA.fullmatch(key) is not None and key not in (".", "..", "_index")


@dataclass(frozen=True, slots=True)
class VmPlan:
    """How one VM is recovered.

    vm: its ID or name in the repository. networks: by port group. ips: fixed addresses by port group, or under "" for
    the first card. subnet, security_groups: for every card, before the networks. types: instance types in order of
    preference, empty to choose by CPUs and memory among `families`. firmware: `bios`, `uefi` or None for what the
    restore point says. platform: `windows`, `linux` or None for what vSphere and the disks say. root_disk: name or ID
    of the disk to boot, None for the first. metadata: of the instance's metadata service. order: lower ones start
    first. delay_s: to wait before it starts. ready: what counts as started, within ready_s. rto_s: when it must be
    ready, counted from the moment a recovery begins, None for the plan's. import_from: s3://BUCKET/KEY of a raw disk
    each, for import-image. license: LicenseType of import-image.
    """

    name: str
    vm: str
    networks: tuple[Network, ...] = ()
    subnet: str | None = None
    security_groups: tuple[str, ...] = ()
    ips: dict[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    families: tuple[str, ...] = FAMILIES
    architecture: str | None = None
    firmware: str | None = None
    root_disk: str | None = None
    key_pair: str | None = None
    instance_profile: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    user_data: str | None = None
    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    metadata: Metadata = field(default_factory=Metadata)
    order: int = 1
    delay_s: int = 0
    ready: Ready = "status-checks"
    ready_s: int = 900
    rto_s: int | None = None
    via: Via = "register-image"
    license: str | None = None
    platform: str | None = None
    import_role: str | None = None
    import_from: tuple[str, ...] = ()

    def network(self, port_group: str) -> Network | None:
        """Where a card of that port group goes; None if the plan does not say."""
        if self.subnet:
            return Network(port_group, self.subnet, self.security_groups)
        return next((network for network in self.networks if network.name == port_group), None)

    def alone_in(self, network: Network) -> VmPlan:
        """The same machine for a drill: all its cards there, without what belongs to the one that counts: addresses,
        keys, rights, user data."""
        return replace(
            self,
            networks=(),
            subnet=network.subnet,
            security_groups=network.security_groups,
            ips={},
            key_pair=None,
            instance_profile=None,
            user_data=None,
            via="register-image",
        )

    def by(self, via: Via | None) -> VmPlan:
        """The same with another way to an image, if one is given."""
        return self if via is None else replace(self, via=via)


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """One file. repository, endpoint_url, region, profile: None where it does not say. drill: where drills in EC2 run,
    None where it does not say. site: what that of the repository demands. rto_s: when all of it must be ready."""

    path: Path
    repository: str | None
    endpoint_url: str | None
    region: str | None
    profile: str | None
    vms: tuple[VmPlan, ...]
    drill: Network | None = None
    site: Site | None = None
    rto_s: int | None = None

    def vm(self, name: str) -> VmPlan | None:
        """The `[vm.NAME]` of that name, or the one whose `vm` is that; None if there is none."""
        return next((vm for vm in self.vms if name in (vm.name, vm.vm)), None)
