"""Failing over by VM Import."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import readydisks
import recoverworld
from ec2front import Request
from recoverworld import SETTINGS, World, hardware
from rig import Outcome, command
from servers import S3Server
from suite.remedies import commands_in, remedy
from warmspare.errors import RecoverError
from warmspare.recover.aws.client import Aws

STAGES = [
    ("active", "pending", "1"),
    ("active", "validated", "10"),
    ("active", "converting", "40"),
    ("active", "booting", "70"),
    ("completed", "", ""),
]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("win"), moto.endpoint_url, patch) as world,
    ):
        world.protect("win", hardware("dmz", firmware="efi", guest_id="windows2019srv_64Guest"))
        world.stage("win")
        yield world


@pytest.fixture
def world(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.again(staged, tmp_path, monkeypatch) as again:
        again.front.import_messages = list(STAGES)
        yield again


def plan(world: World, more: str = "") -> Path:
    return world.write_plan(f'[vm.win]\ninstance_type = "m5.large"\nvia = "import-image"\nlicense = "AWS"\n{more}')


def test_windows_is_imported_from_its_staged_snapshots(world: World) -> None:
    world.run(plan(world))
    [request] = world.front.made("ImportImage")
    said = request.parameters
    assert said["Platform"] == "Windows" and said["LicenseType"] == "AWS" and said["BootMode"] == "uefi"
    [container] = said["DiskContainers"]
    assert world.standin.snapshots[container["SnapshotId"]].tags["warmspare:vm"] == "win"
    assert not world.front.made("RegisterImage")
    [tagging] = world.front.made("CreateTags")
    record = json.loads((world.repo / "vms/win/failover.json").read_text())
    steps = {step["what"]: step["id"] for step in record["steps"]}
    assert tagging.parameters["Resources"] == [steps["image"]] and record["via"] == "import-image"
    assert steps["import"] in world.front.tasks
    [launched] = world.front.made("RunInstances")
    assert launched.parameters["ImageId"] == steps["image"]
    world.run(plan(world))
    assert len(world.front.made("ImportImage")) == len(world.front.instances) == 1


def test_from_raw_objects_as_in_2014(world: World) -> None:
    world.run(plan(world, 'import_from = ["s3://raw-disks/win/0.raw"]\n'))
    [request] = world.front.made("ImportImage")
    expected = {"Format": "RAW", "UserBucket": {"S3Bucket": "raw-disks", "S3Key": "win/0.raw"}}
    assert request.parameters["DiskContainers"] == [expected]


# From the first that may make something to the last, by number.
REQUESTS, REQUESTS_ANEW = range(8, 16), range(6, 18)


def cut_off(world: World, number: int) -> bool:
    """A run that ends behind its number-th request; False where it came to its end before."""

    class Cut(BaseException):
        pass

    class Dying(Aws):
        left = number

        async def call(self, *arguments: Any, **more: Any) -> Any:
            answer = await super().call(*arguments, **more)
            self.left -= 1
            if self.left == 0:
                raise Cut
            return answer

    try:
        world.run(plan(world), aws=Dying(SETTINGS))
    except Cut:
        return True
    except BaseExceptionGroup as group:
        assert group.subgroup(Cut)
        return True
    return False


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in (9, 13) else pytest.mark.slow) for n in (*REQUESTS, REQUESTS.stop)]
)
def test_cut_off_anywhere_there_is_one_import_and_one_instance(world: World, number: int) -> None:
    assert cut_off(world, number) is (number in REQUESTS)
    world.run(plan(world))
    assert len(world.front.tasks) == len(world.front.instances) == 1


def test_an_import_that_fails_is_explained(world: World) -> None:
    world.front.import_messages = [*STAGES[:3], ("deleted", "ClientError: Unknown OS / Missing OS files.", "")]
    with pytest.raises(RecoverError, match="does not recognise the guest's system") as caught:
        world.run(plan(world))
    assert "register-image" in str(caught.value) and not world.front.instances
    record = json.loads((world.repo / "vms/win/failover.json").read_text())
    assert record["state"] == "starting" and len(world.front.tasks) == 1


FAILING = [*STAGES[:2], ("deleted", "The service role vmimport does not exist.", "")]


def test_an_import_that_failed_is_begun_anew_by_the_next_run(world: World) -> None:
    path = plan(world)
    world.front.import_messages = list(FAILING)
    for number in (1, 2):
        outcome = world.failover("--plan", path, "--vm", "win", code=8)
        assert "role does not exist" in outcome.stderr and len(world.front.tasks) == number
    assert not world.front.instances
    world.front.import_messages = list(STAGES)  # the operator has made the role
    outcome = world.failover("--plan", path, "--vm", "win")
    first, second, third = world.front.tasks
    notes = [event["message"] for event in outcome.all("failover.note")]
    assert any("role does not exist" in note and second in note for note in notes)
    assert not any(first in note for note in notes), "only the last one says why"
    tokens = {request.parameters["ClientToken"] for request in world.front.made("ImportImage")}
    assert len(tokens) == 3 and len(world.front.instances) == 1
    record = json.loads((world.repo / "vms/win/failover.json").read_text())
    assert [step["id"] for step in record["steps"] if step["what"] == "import"] == [first, second, third]
    assert world.front.tasks[third]["image"] in world.front.images
    # What is done stays done.
    world.failover("--plan", path, "--vm", "win")
    assert len(world.front.tasks) == 3 and len(world.front.instances) == 1


RAW = remedy("name a raw disk by import_from in the recovery plan, or take it out: what is staged is imported then")
HERE = remedy("copy the object to a bucket of this region, and correct import_from in the recovery plan")
SUPPORTED = remedy(
    "compare it with AWS's list of supported systems, or run this again with `--via register-image`, which does not "
    "look into the disk"
)
ONE_ROOT = remedy(
    "it takes no dual boot and no second /etc: mend the guest, sync and stage, or run this again with `--via "
    "register-image`, which does not look into the disk"
)
FROM = 'import_from = "s3://bucket/web.vmdk"\n'


@pytest.mark.parametrize(
    ("message", "wrong", "right"),
    [
        pytest.param("Parameter disk-image-size=0 has an invalid format", FROM, "", marks=RAW),
        pytest.param("OVA with chunked disk files", FROM, 'import_from = "s3://bucket/web.raw"\n', marks=RAW),
        pytest.param("Unsupported VMDK File Format", FROM, "", marks=[RAW, pytest.mark.slow]),
        pytest.param("Footers not identical", FROM, "", marks=[RAW, pytest.mark.slow]),
        pytest.param("Uncompressed data has an invalid length.", FROM, "", marks=[RAW, pytest.mark.slow]),
        pytest.param("File uses unsupported compression algorithm 0", FROM, "", marks=[RAW, pytest.mark.slow]),
        pytest.param("Disk validation failed [something new]", FROM, "", marks=[RAW, pytest.mark.slow]),
        pytest.param(
            "Multiple different grub/menu.lst files found.",
            None,
            None,
            marks=remedy(
                "leave one of them in the guest, sync and stage, or run this again with `--via register-image`, which "
                "does not look into the disk"
            ),
        ),
        pytest.param(
            "The service role vmimport does not exist",
            "",
            'import_role = "importer"\n',
            marks=remedy("make the role of docs/rights.md, or name it by import_role in the recovery plan"),
        ),
        pytest.param(
            "No bootable partition found.",
            "",
            'root_disk = "win-0"\n',
            marks=remedy(
                "name the boot disk by root_disk in the recovery plan; `warmspare recover check` shows the partitions"
            ),
        ),
        pytest.param(
            "Invalid S3 source location",
            FROM,
            'import_from = "s3://bucket/web.raw"\n',
            marks=remedy("correct import_from in the recovery plan, and run this again"),
        ),
        pytest.param(
            "The given S3 bucket is not local to the region", FROM, 'import_from = "s3://here/web.raw"\n', marks=HERE
        ),
        pytest.param(
            "Bucket b is not in the eu-west-1 Region",
            FROM,
            'import_from = "s3://here/web.raw"\n',
            marks=[HERE, pytest.mark.slow],
        ),
        pytest.param("Unknown OS / Missing OS files.", None, None, marks=SUPPORTED),
        pytest.param("Unable to determine kernel version.", None, None, marks=[SUPPORTED, pytest.mark.slow]),
        pytest.param("Unsupported kernel version 2.6.9", None, None, marks=[SUPPORTED, pytest.mark.slow]),
        pytest.param("not supported on the requested instance", None, None, marks=[SUPPORTED, pytest.mark.slow]),
        pytest.param("Could not read fstab", None, None, marks=ONE_ROOT),
        pytest.param("Multiple directories found", None, None, marks=[ONE_ROOT, pytest.mark.slow]),
        pytest.param(
            "unable to detect default kernel",
            None,
            None,
            marks=remedy(
                "set GRUB_DEFAULT=saved and the entry in grubenv, sync and stage, or run this again with `--via "
                "register-image`, which does not look into the disk"
            ),
        ),
        pytest.param(
            "unable to read your import's initramfs/initrd",
            None,
            None,
            marks=remedy(
                "check it with lsinitramfs or lsinitrd, build it anew, sync and stage, or run this again with `--via "
                "register-image`, which does not look into the disk"
            ),
        ),
        pytest.param(
            "Logical volume group activation failed",
            None,
            None,
            marks=remedy(
                "protect all of its disks, and check its file systems, or run this again with `--via register-image`, "
                "which does not look into the disk"
            ),
        ),
        pytest.param(
            "A new one",
            None,
            None,
            marks=remedy(
                'look it up in AWS\'s "Troubleshooting VM Import/Export", or run this again with `--via '
                "register-image`, which does not look into the disk"
            ),
        ),
    ],
)
def test_what_its_failures_say_is_done(world: World, message: str, wrong: str | None, right: str | None) -> None:
    """In the plan, where that is what is wrong; else the same is run again as the sentence says."""
    world.front.import_messages = [("deleted", message, "")]
    path = plan(world, wrong or "")
    hint = world.failover("--plan", path, "--vm", "win", code=8).last("error")["hint"]
    assert len(world.front.tasks) == 1 and not world.front.instances
    if "`warmspare recover check" in hint:
        [words] = commands_in(hint)
        assert "partition" in command(*words).stderr
    if right is None:
        [words] = re.findall("`(--via [^`]+)`", hint)
        world.failover("--plan", path, "--vm", "win", *words.split())
        assert len(world.front.tasks) == 1 and len(world.front.made("RegisterImage")) == 1
    else:
        world.front.import_messages = list(STAGES)
        world.failover("--plan", plan(world, right), "--vm", "win")
        assert len(world.front.tasks) == 2
    assert len(world.front.instances) == 1


@remedy("run this again: it is imported anew")
def test_an_import_that_names_no_image(world: World) -> None:
    world.front.import_messages = [("completed", "no image", "")]
    with pytest.raises(RecoverError, match="names no image"):
        world.run(plan(world))
    world.front.import_messages = list(STAGES)
    world.run(plan(world))
    assert len(world.front.tasks) == 2 and len(world.front.instances) == 1


def test_a_second_import_that_aws_does_not_list_yet_is_found_by_its_token(world: World) -> None:
    world.front.import_messages = list(FAILING)
    with pytest.raises(RecoverError, match="role"):
        world.run(plan(world))
    world.front.import_messages, world.front.hide = list(STAGES), 100
    lost: list[Request] = []

    def lose(request: Request) -> bool:
        if request.action != "ImportImage" or lost:
            return False
        lost.append(request)
        return True

    world.front.lose = lose
    world.run(plan(world))
    assert lost and len(world.front.tasks) == 2 and len(world.front.instances) == 1


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, marks=() if n in (9, 10, 11, 12) else pytest.mark.slow)
        for n in (*REQUESTS_ANEW, REQUESTS_ANEW.stop)
    ],
)
def test_a_second_import_that_is_cut_off_anywhere_is_one(world: World, number: int) -> None:
    world.front.import_messages = list(FAILING)
    with pytest.raises(RecoverError, match="role"):
        world.run(plan(world))
    world.front.import_messages = list(STAGES)
    assert cut_off(world, number) is (number in REQUESTS_ANEW)
    world.run(plan(world))
    assert len(world.front.tasks) == 2 and len(world.front.instances) == 1


def test_windows_by_registering_is_noted(world: World) -> None:
    outcome = world.failover("--vm", "win", "--dry-run", code=5)
    assert any("nor licenses it" in event["message"] for event in outcome.all("failover.note"))
    outcome = world.failover("--vm", "win", "--via", "import-image", "--dry-run", code=5)
    assert "import an image" in outcome.last("failover.would")["action"] or any(
        "import an image" in event["action"] for event in outcome.all("failover.would")
    )
    assert world.front.changing() == []


BARE: dict[str, Any] = {"firmware": "bios", "cpus": 2, "memory_mib": 4096, "nics": [{"network": "dmz"}]}


def given(world: World, vm: str, guest_id: str = "") -> None:
    """Its disk as it is now, of which vSphere says no more than this."""
    world.sync(vm, {**BARE, "guest_id": guest_id})
    world.stage(vm)


def notes(outcome: Outcome) -> str:
    return " ".join(event["message"] for event in outcome.all("failover.note"))


def test_windows_is_told_by_its_disks(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where vSphere does not say it, and where it says something else; registered, what that loses is said."""
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        world.front.import_messages = STAGES[-1:]
        disk, _ = readydisks.windows(tmp_path)
        for vm, guest_id in (("given", ""), ("odd", "debian12_64Guest")):
            subprocess.run(["cp", "--sparse=always", disk, world.disk(vm)], check=True)
            given(world, vm, guest_id)
        text = "".join(f'[vm.{vm}]\ninstance_type = "m5.large"\nready = "running"\n' for vm in ("given", "odd"))
        path = world.write_plan(text)
        dry = world.failover("--plan", path, "--all", "--dry-run")
        assert [event["runs"] for event in dry.all("outlook")] == [["Windows"]] * 2
        assert notes(dry).count("get-password-data") == 2
        assert "vSphere says Linux, and its disks hold Windows" in notes(dry)
        outcome = world.failover("--plan", path, "--all", "--via", "import-image")
        assert [request.parameters["Platform"] for request in world.front.made("ImportImage")] == ["Windows"] * 2
        assert notes(outcome).count("the disks count") == 1 and "get-password-data" not in notes(outcome)
        again = world.failover("--plan", path, "--all", "--via", "import-image")
        assert not again.all("outlook"), "nothing hangs on it any more"


def test_what_nobody_says_is_asked_for(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is Windows: nothing is imported, and the remedy leads on."""
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        world.front.import_messages = STAGES[-1:]
        world.protect("given", BARE)
        world.stage("given")
        text = '[vm.given]\ninstance_type = "m5.large"\nvia = "import-image"\nready = "running"\n'
        path = world.write_plan(text)
        for dry in (["--dry-run"], []):
            outcome = world.failover("--plan", path, "--all", *dry, code=2)
            said = outcome.stderr + " ".join(event["message"] for event in outcome.all("failover.missing"))
            assert "Windows or Linux is not known" in said
        assert not world.front.changing()
        path.write_text(text + 'platform = "windows"\n')
        world.failover("--plan", path, "--all")
        assert world.front.made("ImportImage")[0].parameters["Platform"] == "Windows"
