"""Small parts of a failover: machines, instance types, errors in words, VM Import's failures."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import pytest

from suite.remedies import remedy, told
from warmspare.engine.wiring.planfile import parse_plan
from warmspare.errors import FormatError
from warmspare.format.restore_point import Disk, ObjectRef, RestorePoint
from warmspare.model.ids import PointId
from warmspare.patience import Again
from warmspare.recover.aws import ec2_errors
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.failover.ec2_machine import DEVICES, Ec2Machine, looked_into, machine
from warmspare.recover.failover.images import import_errors
from warmspare.recover.failover.images.ami import ImageSpec
from warmspare.recover.failover.images.importing import ImportSpec
from warmspare.recover.failover.instancetype import InstanceType, choose, ranked
from warmspare.recover.failover.plan import FAMILIES, Network, VmPlan, VolumeSettings
from warmspare.recover.failover.platform import BILLED, licensed, losses
from warmspare.recover.failover.volume_limits import wrong_for
from warmspare.recover.staging.staged import GIB, StagedDisk, StagedPoint
from warmspare.repository.failover_record import decode

REF = ObjectRef("vms/x/m", 1, "0" * 64, 0)
NOW = datetime.datetime.now(datetime.UTC)
FULL: dict[str, Any] = {"firmware": "efi", "cpus": 2, "memory_mib": 4096, "guest_id": "debian12_64Guest"}


def made(hardware: dict[str, Any], plan: VmPlan | None = None, disks: int = 1, name: str = "web") -> Ec2Machine:
    point = PointId(3, "ab" * 32)
    held = [Disk(f"d{n}", f"Hard disk {n}", GIB, "0" * 64, REF, 0) for n in range(disks)]
    record = RestorePoint(
        1, 0, "vm-id", name, 3, "0" * 64, "0" * 32, "2026-01-01T00:00:00Z", "", held, 0, 0, 0, hardware=hardware
    )
    staged = tuple(
        StagedDisk(f"snap-{n}", "completed", "r", "vm-id", point, "", f"d{n}", n, disks, GIB, 1, False, "", "", 0, NOW)
        for n in range(disks)
    )
    return machine(record, StagedPoint("r", "vm-id", point, "", staged), plan or VmPlan("web", "web"))


@pytest.mark.parametrize(
    ("hardware", "boot_mode", "architecture", "platform"),
    [
        (FULL, "uefi", "x86_64", "Linux"),
        ({**FULL, "firmware": "bios"}, "legacy-bios", "x86_64", "Linux"),
        ({**FULL, "guest_id": "arm-debian12-64Guest"}, "uefi", "arm64", "Linux"),
        ({**FULL, "guest_id": "windows2019srvNext_64Guest"}, "uefi", "x86_64", "Windows"),
        ({**FULL, "guest_id": "rhel9_64Guest"}, "uefi", "x86_64", "RHEL"),
        ({**FULL, "guest_id": "sles15_64Guest"}, "uefi", "x86_64", "SUSE"),
        ({**FULL, "guest_id": "other5xLinux64Guest"}, "uefi", "x86_64", "Linux"),
        ({**FULL, "guest_id": "darwin19_64Guest"}, "uefi", "x86_64", ""),
        ({**FULL, "guest_id": ""}, "uefi", "x86_64", ""),
    ],
)
def test_a_machine_out_of_its_hardware(hardware: Any, boot_mode: str, architecture: str, platform: str) -> None:
    built = made(hardware)
    assert (built.boot_mode, built.architecture, built.platform) == (boot_mode, architecture, platform)
    assert not built.missing and (platform in BILLED) == any("import-image" in note for note in built.notes)
    assert not any("import-image" in note for note in made(hardware, VmPlan("w", "w", via="import-image")).notes)


@pytest.mark.parametrize(
    ("stated", "known", "runs", "counts", "said"),
    [
        (None, "windows2019srv_64Guest", ["Windows"], "Windows", ""),
        (None, "", ["Windows"], "Windows", ""),
        (None, "", [], "", ""),
        (None, "", ["Linux", "Windows"], "", ""),
        (None, "debian12_64Guest", ["Windows"], "Windows", "vSphere says Linux, and its disks hold Windows"),
        (None, "windows2019srv_64Guest", ["Linux"], "Linux", "vSphere says Windows, and its disks hold Linux"),
        (None, "rhel8_64Guest", ["Linux"], "Linux", "vSphere says RHEL, and its disks hold Linux"),
        (None, "otherLinux64Guest", ["RHEL"], "RHEL", "vSphere says Linux, and its disks hold RHEL"),
        ("windows", "", [], "Windows", ""),
        ("linux", "rhel8_64Guest", [], "RHEL", ""),
        ("linux", "windows2019srv_64Guest", [], "Linux", "the plan says Linux, and vSphere says Windows: the plan"),
        ("windows", "debian12_64Guest", ["Linux"], "Windows", "and vSphere says Linux and its disks hold Linux"),
    ],
)
def test_what_counts_of_plan_disks_and_vsphere(
    stated: str | None, known: str, runs: list[str], counts: str, said: str
) -> None:
    """Where they disagree that is said; what the system loses is said of the one that counts."""
    plan = VmPlan("w", "w", platform=stated)
    built = made({**FULL, "guest_id": known}, plan)
    seen, notes = looked_into(built, plan, runs)
    told = [*built.notes, *notes]
    assert seen.platform == counts and len(told) == len(set(told))
    differ = [note for note in told if " says " in note]
    assert said in differ[-1] if said else not differ
    assert all(loss in told for loss in losses(counts))


@pytest.mark.parametrize(
    ("volumes", "gib", "said"),
    [
        (VolumeSettings(), 65_536, ""),
        (VolumeSettings(iops=80_000), 160, ""),
        (VolumeSettings(iops=80_000), 159, "at most 79500 IOPS; set iops = 79500 or less"),
        (VolumeSettings(iops=3_000), 1, ""),  # what each has
        (VolumeSettings("gp2"), 16_384, ""),
        (
            VolumeSettings("gp2", place="plan.toml, line 7, vm.a.volumes"),
            16_385,
            '"gp3" in volumes (plan.toml, line 7, vm.a',
        ),
        (VolumeSettings("io1", 100), 3, "4 to 16384"),
        (VolumeSettings("io1", 500), 9, "at most 450 IOPS"),
        (VolumeSettings("io2", 256_000), 256, ""),
        (VolumeSettings("io2", 256_000), 255, "at most 255000 IOPS"),
        (VolumeSettings("standard"), 1_025, "1 to 1024"),
    ],
)
def test_a_disk_beyond_what_its_volumes_type_holds(volumes: VolumeSettings, gib: int, said: str) -> None:
    """Of a machine it is missing, before AWS is asked."""
    told = wrong_for(volumes, [("Hard disk 1", gib)])
    assert len(told) == bool(said) and all(said in each and "Hard disk 1" in each for each in told)


def test_what_windows_loses_is_said_in_full() -> None:
    told = " ".join(losses("Windows"))
    for word in ("bills", "licen", "Dedicated Hosts", "slmgr", "get-password-data", "NVMe", "EC2Launch", "--via "):
        assert word in told, word
    byol = [VmPlan("w", "w", via="import-image", license=of) for of in ("AWS", "BYOL", None)]
    assert [len([note for note in made(FULL, plan).notes if "BYOL" in note]) for plan in byol] == [1, 0, 0]
    assert losses("Linux") == [] and "subscription" in losses("RHEL")[0] and "SUSE" in losses("SUSE")[0]


@remedy(
    "AWS takes {…} with the licence that it has, and may refuse the import: take license out of the recovery plan, or "
    'write "BYOL"'
)
def test_a_licence_of_awss_is_for_windows() -> None:
    said = [licensed("RHEL", license) for license in ("AWS", "BYOL", None)]
    told(*said[0])
    assert said[1:] == [[], []]


NET = 'subnet = "subnet-0123456789abcdef0"\nsecurity_groups = ["sg-0123456789abcdef0"]\n'
CARDS: dict[str, Any] = {**FULL, "nics": [{"network": "dmz"}]}


@pytest.mark.parametrize(
    ("hardware", "wrong", "right"),
    [
        pytest.param(
            {**FULL, "firmware": "coreboot"},
            "[vm.web]\n",
            '[vm.web]\nfirmware = "uefi"\n',
            marks=remedy("set firmware of the VM in the recovery plan"),
        ),
        pytest.param(
            {"firmware": "bios"},
            "[vm.web]\n",
            '[vm.web]\ninstance_type = "m7i.large"\n',
            marks=remedy("set instance_type in the recovery plan"),
        ),
        pytest.param(
            CARDS,
            '[vm.web]\nip = "10.0.0.5"\n',
            "[network.dmz]\n" + NET + '[vm.web]\nip = "10.0.0.5"\n',
            marks=remedy("add [network.NAME] or subnet to the recovery plan"),
        ),
        pytest.param(
            CARDS,
            '[vm.web]\nip = "10.0.0.5"\n',
            '[vm.web]\nip = "10.0.0.5"\n' + NET,
            marks=remedy("add [network.NAME] or subnet to the recovery plan"),
        ),
        pytest.param(
            FULL,
            "[network.dmz]\n" + NET + "[vm.web]\n",
            "[network.dmz]\n" + NET + "[vm.web]\n" + NET,
            marks=remedy("set subnet and security_groups of the VM in the recovery plan"),
        ),
        pytest.param(
            {**FULL, "nics": [{"label": "Network adapter 1"}]},
            "[network.dmz]\n" + NET + "[vm.web]\n",
            "[network.dmz]\n" + NET + "[vm.web]\n" + NET,
            marks=remedy("set subnet and security_groups of the VM, for all its network cards"),
        ),
        pytest.param(
            CARDS,
            "[network.lan]\n" + NET + "[vm.web]\n",
            "[network.'dmz']\n" + NET + "[network.lan]\n" + NET + "[vm.web]\n",
            marks=remedy("add a [network.{…}] to the recovery plan"),
        ),
        pytest.param(
            CARDS,
            "[vm.web]\nips = {lan = '10.0.0.5'}\n" + NET,
            "[vm.web]\n" + NET,
            marks=remedy("take it out of ips in the recovery plan"),
        ),
        pytest.param(
            FULL,
            "[vm.web]\nroot_disk = 'C'\n",
            "[vm.web]\nroot_disk = 'Hard disk 0'\n",
            marks=remedy("name one of these: {…}"),
        ),
    ],
)
def test_what_is_missing_for_a_machine_is_said_in_the_plan(hardware: dict[str, Any], wrong: str, right: str) -> None:
    def missing(text: str) -> tuple[str, ...]:
        [plan] = parse_plan(text, Path("/plan.toml")).vms
        return made(hardware, plan).missing

    found = missing(wrong)
    told(*found)
    assert len(found) == 1 and not missing(right)


def test_what_was_not_understood_is_not_known() -> None:
    """Nothing takes its place: what must be known is asked for, and all of it is said."""
    odd = {**FULL, "firmware": "quantum", "unknown": ["device 77: device type VirtualQuantumTimer"] * 7}
    built = made(odd)
    assert built.boot_mode == "" and any("'quantum', which is not known" in what for what in built.missing)
    assert any("VirtualQuantumTimer" in note and "and 2 more" in note for note in built.notes)
    assert not made(odd, VmPlan("w", "w", firmware="uefi")).missing
    assert not any("not understood" in note for note in made(FULL).notes)
    cards = {**FULL, "nics": [{"network": "prod", "label": "A"}, {"network": "", "label": "Network adapter 2"}]}
    plan = VmPlan("w", "w", networks=(Network("prod", "subnet-1", ()),))
    assert made(cards, plan).missing == (
        "the restore point does not say which network Network adapter 2 is on; set subnet and "
        "security_groups of the VM, for all its network cards",
    )
    assert not made(cards, VmPlan("w", "w", subnet="subnet-1")).missing


def test_disks_in_order_up_to_what_an_instance_takes() -> None:
    built = made(FULL, disks=26)
    assert [disk.device for disk in built.disks] == list(DEVICES) and not built.missing
    assert [disk.staged.number for disk in built.disks] == list(range(26))
    assert any("26 volumes" in what for what in made(FULL, disks=27).missing)
    assert any("none of the VM's disks" in what for what in made(FULL, VmPlan("w", "w", root_disk="x")).missing)


def test_an_images_name_is_its_content() -> None:
    spec = ImageSpec(made(FULL), "3-abababab", {})
    assert spec.name == ImageSpec(made(FULL), "3-abababab", {"Owner": "x"}).name, "tags change nothing"
    others = [
        ImageSpec(made({**FULL, "firmware": "bios"}), "3-abababab", {}),
        ImageSpec(made(FULL, disks=2), "3-abababab", {}),
        ImageSpec(made(FULL), "3-abababab", {}, salt="drill"),
    ]
    assert len({spec.name, *(other.name for other in others)}) == 4
    long = ImageSpec(made(FULL, name="ü*" * 200), "3-abababab", {})
    assert len(long.name) <= 128 and long.name.isascii() and "3-abababab" in long.name


def kind(name: str, vcpus: int, gib: int, **more: Any) -> InstanceType:
    usual = InstanceType(name, vcpus, gib * 1024, 4, 28, True, ("legacy-bios", "uefi"), ("x86_64",), True)
    return replace(usual, **more)


def test_the_rule_for_a_type() -> None:
    types = [
        kind("m7i.large", 2, 8),
        kind("c7i.large", 2, 4),
        kind("r7i.large", 2, 16),
        kind("m6i.large", 2, 8),
        kind("c7i.xlarge", 4, 8),
        kind("c7i.metal", 2, 4, nitro=False),
        kind("c7x.large", 2, 4, boot_modes=("uefi",)),
        kind("c7g.large", 2, 4, architectures=("arm64",)),
    ]
    families = ("m7i", "c7i", "r7i", "m6i", "c7x", "c7g")

    def best(**more: Any) -> list[str]:
        built = replace(made({**FULL, "firmware": "bios"}), **more)
        return [one.name for one in ranked(types, built, families)]

    assert best() == ["c7i.large", "m7i.large", "m6i.large", "r7i.large", "c7i.xlarge"]
    assert best(memory_mib=5000)[0] == "m7i.large" and best(memory_mib=9000) == ["r7i.large"]
    assert best(cpus=3) == ["c7i.xlarge"] and best(cpus=8) == []
    assert best(boot_mode="uefi")[:2] == ["c7i.large", "c7x.large"] and best(architecture="arm64") == ["c7g.large"]
    many = made(FULL, disks=26)
    assert kind("t", 2, 4).suits(many) == "" and "27" in kind("t", 2, 4, attachments=26).suits(many)


class Region:
    """An EC2 that has some families, each with a `large`."""

    def __init__(self, *families: str) -> None:
        self.names = {f"{family}.large" for family in families}

    async def pages(self, operation: str, key: str, *, about: str, Filters: list[Any], **_: Any) -> AsyncIterator[Any]:
        for name in sorted(self.names):
            if any(fnmatch(name, pattern) for pattern in Filters[0]["Values"]):
                yield {
                    "InstanceType": name,
                    "VCpuInfo": {"DefaultVCpus": 2},
                    "Hypervisor": "nitro",
                    "MemoryInfo": {"SizeInMiB": {"c": 4, "m": 8, "r": 16}[name[0]] * 1024},
                    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
                }


@pytest.mark.parametrize(
    ("families", "chosen"),
    [
        (["c8i", "c8a", "c7i", "c6i", "m8i"], ["c8i.large", "c8a.large", "c7i.large", "c6i.large"]),
        (["c7i", "m7i", "m8i", "m6i"], ["c7i.large", "m8i.large", "m7i.large", "m6i.large"]),
        (["m7i", "m6i", "c8g", "m8i-flex"], ["m7i.large", "m6i.large"]),
    ],
)
async def test_the_newest_generation_that_the_region_has_comes_first(families: list[str], chosen: list[str]) -> None:
    assert (await choose(cast(Ec2, Region(*families)), made(FULL), FAMILIES, "eu-central-1a"))[0] == chosen


@pytest.mark.parametrize("code", sorted(ec2_errors.CODES))
def test_each_code_is_a_sentence_with_what_to_do(code: str) -> None:
    plain = AwsError("AWS refused it", where="RunInstances of VM web", hint="look", again=Again.NEVER, code=code)
    told = ec2_errors.explained(plain)
    assert told is not plain and told.code == code and told.hint and told.where == plain.where
    assert told.what[0].islower() or told.what.startswith(("AWS", "EC2"))
    assert "\n" not in str(told) and not told.what.endswith(".") and not told.hint.endswith(".")


@pytest.mark.parametrize("code", sorted(ec2_errors.DIED))
def test_each_reason_of_a_dead_instance(code: str) -> None:
    """Before it ran, another leads on by running again, or from another point; after it, never in silence."""
    told = ec2_errors.died("i-1", "terminated", code, "AWS's sentence.")
    assert "i-1" in str(told) and f"[{code}: AWS's sentence.]" in told.what and "AWS says" not in told.what
    assert "run again" in told.hint or "run this again" in told.hint
    over = ec2_errors.ended("i-1", "terminated", code)
    assert "run again" not in over.hint and over.hint and f"[{code}]" in over.what


def test_an_image_that_failed_is_to_be_removed() -> None:
    """It is found again by its name until then: test_failover.py, deregistered_meanwhile, shows the rest."""
    told = ec2_errors.failed("image", "ami-1", "failed", "Client.X", "It is damaged.")
    assert "aws ec2 deregister-image --image-id ami-1" in told.hint and "[Client.X: It is damaged.]" in told.what


def test_an_unknown_code_stays_as_it_is_and_hostile_words_are_not_shown() -> None:
    plain = AwsError("AWS refused it", where="x", hint="y", again=Again.NEVER, code="SomethingNew")
    assert ec2_errors.explained(plain) is plain
    assert "\x1b" not in str(ec2_errors.died("i-1", "terminated", "\x1b[31mServer.Odd", "\x1b[2J"))


MESSAGES = [
    ("ClientError: Disk validation failed [OVF file parsing error: OVA with chunked disk files is not]", "several"),
    ("ClientError: Disk validation failed [Unsupported VMDK File Format]", "stream-optimised"),
    ("ClientError: Multiple different grub/menu.lst files found.", "boot loader"),
    ("The service role vmimport does not exist or does not have sufficient permissions", "role"),
    ("No bootable partition found.", "partition"),
    ("ClientError: Footers not identical", "VHD"),
    ("ClientError: Uncompressed data has an invalid length.", "damaged"),
    ("The given S3 bucket is not local to the region", "another region"),
    ("ERROR: Bucket b is not in the eu-west-1 Region, it's in us-east-1", "another region"),
    ("Invalid S3 source location", "no such object"),
    ("CLIENT_ERROR : ClientError: Unknown OS / Missing OS files.", "recognise"),
    ("ClientError: Booter Networking failure/instance not reachable.", "network"),
    ("FirstBootFailure: This import request failed because the Windows instance failed to boot", "did not start"),
    ("ClientError: Invalid configuration - Could not read fstab", "fstab"),
    ("ClientError: BLSC-style GRUB found, but unable to detect default kernel", "kernel"),
    ("ClientError: Unable to determine kernel version.", "kernel"),
    ("ClientError: We were unable to read your import's initramfs/initrd to determine what drivers", "initramfs"),
    ("ClientError: Unsupported configuration - Logical volume group activation failed", "volume group"),
    ("ClientError: Unsupported configuration - Multiple directories found", "root directories"),
    ("ClientError: Unsupported kernel version 2.6.9", "kernel"),
    ("Linux is not supported on the requested instance", "type of instance"),
    ("File uses unsupported compression algorithm 0", "OVA"),
    ("Parameter disk-image-size=0 has an invalid format", "format"),
    ("ClientError: Disk validation failed [something new]", "disk"),
]


@pytest.mark.parametrize(("message", "word"), MESSAGES)
def test_each_failure_of_vm_import_is_explained(message: str, word: str) -> None:
    told = import_errors.explain_import("import-ami-1", "deleted", message)
    assert word in told.what and told.hint and "import-ami-1" in str(told)


def test_no_explanation_is_without_a_message_that_brings_it() -> None:
    told = {import_errors.explain_import("t", "deleted", message).what: message for message, _ in MESSAGES}
    assert all(message[:200] in what for what, message in told.items())  # with AWS's own words behind it
    brought = {what.partition(" [")[0] for what in told}
    assert brought == {what for _, what, _ in import_errors.MESSAGES}
    unknown = import_errors.explain_import("t", "deleted", "A new\x1b[31m one")
    assert "A new" in unknown.what and "\x1b" not in unknown.what and unknown.hint


def test_what_an_import_asks_for() -> None:
    windows = made({**FULL, "guest_id": "windows2019srv_64Guest"}, disks=2)
    said = ImportSpec("r" * 32, windows, "3-ab", {}, license="BYOL", role="importer").parameters()
    assert said["Platform"] == "Windows" and said["LicenseType"] == "BYOL" and said["RoleName"] == "importer"
    assert [each["SnapshotId"] for each in said["DiskContainers"]] == ["snap-0", "snap-1"]
    raw = ImportSpec("r" * 32, made(FULL), "3-ab", {}, raw=("s3://b/k/0.raw",)).parameters()
    assert raw["DiskContainers"] == [{"Format": "RAW", "UserBucket": {"S3Bucket": "b", "S3Key": "k/0.raw"}}]
    assert raw["ClientToken"] == said["ClientToken"] and raw["BootMode"] == "uefi" and "LicenseType" not in raw


def test_a_failover_record_is_decoded_or_refused() -> None:
    import msgspec

    from warmspare.repository.failover_record import FailoverRecord

    good = FailoverRecord(1, 0, "web", "0" * 32, "started", 3, "a" * 64, "eu-central-1", "register-image", "now")
    data = msgspec.json.encode(good)
    assert decode(data, "web", "here") == good
    for bad in (
        data[:-1],
        data.replace(b'"web"', b'"app"'),
        data.replace(b"started", b"begun"),
        data.replace(b'"sequence":3', b'"sequence":0'),
        data.replace(b"0000", b"000g", 1),
    ):
        with pytest.raises(FormatError, match="failover record is damaged"):
            decode(bad, "web", "here")
