"""What the command lines of failovers, stagings and drills say is to be given is given, and they go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import recoverworld
from recoverworld import PAUSE, World, hardware
from rig import command
from servers import S3Server
from suite.remedies import remedy
from warmspare.errors import WarmspareError
from warmspare.recover.aws import ec2 as ec2_module
from warmspare.recover.drills import evidence
from warmspare.recover.drills.qemu.hardware import choose

UP = "[    0.000000] Linux version 6.1.0\r\nDebian GNU/Linux 12 app ttyS0\r\n\r\napp login: "


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """Two VMs, staged; a replica of one; a plan of both, with a place for drills."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("two"), moto.endpoint_url, patch) as made,
    ):
        patch.setattr(ec2_module, "Pause", lambda: PAUSE)
        patch.chdir(made.home)
        for vm in ("app", "web"):
            made.protect(vm, hardware("dmz"))
            made.stage(vm)
        assert command("apply", "--vm", "app", "--repo", made.repo, "--to", made.home / "app.raw").code == 0
        vms = "".join(f'[vm.{vm}]\ninstance_type = "m5.large"\n' for vm in ("app", "web"))
        made.write_plan(f'repository = "{made.repo}"\n' + vms)
        (made.home / "bare.toml").write_text(vms)
        made.front.console = [UP]
        yield made


@pytest.fixture(scope="module")
def place(world: World) -> dict[str, str]:
    _, subnet, group = world.isolated()
    drill = f'[drill]\nsubnet = "{subnet}"\nsecurity_groups = ["{group}"]\n'
    (world.home / "drill.toml").write_text((world.home / "plan.toml").read_text() + drill)
    return {"SUBNET": subnet, "GROUP": group}


KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234"
STAGE, FAILOVER = "stage --vm app --repo repo --dry-run", "failover --repo repo --dry-run"
CHECK, DRILL = "recover check --vm app", "drill --vm app --repo repo"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        # failover
        pytest.param(
            FAILOVER, FAILOVER + " --vm app", marks=remedy("give --vm NAME, once or more, or --all with a plan")
        ),
        pytest.param(
            FAILOVER,
            FAILOVER + " --all --plan plan.toml",
            marks=remedy("give --vm NAME, once or more, or --all with a plan"),
        ),
        pytest.param(
            "failover --dry-run --all --plan plan.toml --at 1",
            "failover --dry-run --plan plan.toml --vm app --at 1",
            marks=remedy("give --vm NAME once"),
        ),
        pytest.param(FAILOVER + " --all", FAILOVER + " --all --plan plan.toml", marks=remedy("give --plan FILE")),
        pytest.param(
            "failover --dry-run --plan plan.toml --vm nobody",
            "failover --dry-run --plan plan.toml --vm web",
            marks=remedy("it has {…}"),
        ),
        pytest.param(
            "failover --dry-run --vm app",
            "failover --dry-run --vm app --repo repo",
            marks=remedy("give --repo URI, or set repository in the plan"),
        ),
        pytest.param(
            "failover --dry-run --plan bare.toml --vm app",
            "failover --dry-run --plan plan.toml --vm app",
            marks=remedy("give --repo URI, or set repository in the plan"),
        ),
        pytest.param(
            "failback-export --vm app --repo repo --to out --format raw --only-replica",
            "failback-export --vm app --repo repo --to out --format raw --only-replica --replica app.raw",
            marks=remedy("give --replica PATH"),
        ),
        # staging
        pytest.param(STAGE + " --follow", STAGE, marks=remedy("leave out --follow, or the other")),
        pytest.param(STAGE + " --keep 0", STAGE + " --keep 1", marks=remedy("give at least that")),
        pytest.param(STAGE + " --puts 0", STAGE, marks=remedy("leave it out for AWS's 1000")),
        pytest.param(
            STAGE + " --kms-key mine",
            STAGE + f" --kms-key {KEY}",
            marks=remedy("it looks like arn:aws:kms:REGION:ACCOUNT:key/ID"),
        ),
        pytest.param(
            STAGE + " --replica-state .", STAGE + " --replica app.raw", marks=remedy("name the replica by --replica")
        ),
        pytest.param(
            STAGE + " --tag Name=x",
            STAGE + " --tag Owner=x",
            marks=remedy("write KEY=VALUE; keys beginning with aws: or warmspare:, and Name, are taken"),
        ),
        pytest.param(
            STAGE + "".join(f" --tag k{n}=v" for n in range(31)),
            STAGE + "".join(f" --tag k{n}=v" for n in range(30)),
            marks=remedy("give at most 30"),
        ),
        # what is read
        pytest.param(
            CHECK,
            CHECK + " --replica app.raw",
            marks=remedy("give --replica, or --repo for a restore point without a replica"),
        ),
        pytest.param(
            CHECK,
            CHECK + " --repo repo",
            marks=remedy("give --replica, or --repo for a restore point without a replica"),
        ),
        pytest.param(CHECK + " --replica app.raw --at 1", CHECK + " --repo repo --at 1", marks=remedy("leave one out")),
        pytest.param(
            CHECK + " --repo repo --state .", CHECK + " --repo repo", marks=remedy("leave it out, or give --replica")
        ),
        # drills
        pytest.param(
            DRILL + " --subnet SUBNET --security-group GROUP",
            DRILL + " --ec2 --subnet SUBNET --security-group GROUP",
            marks=remedy("leave one of them out"),
        ),
        pytest.param(
            "drill --ec2 --plan drill.toml --all --firmware bios",
            "drill --ec2 --plan drill.toml --all",
            marks=remedy("leave it out, or drill that VM alone"),
        ),
        pytest.param(
            DRILL + " --ec2",
            DRILL + " --ec2 --subnet SUBNET --security-group GROUP",
            marks=remedy(
                "give --subnet and --security-group, or [drill] in the plan: a subnet without a route out, and a "
                "security group without outbound rules"
            ),
        ),
        pytest.param(
            "drill --ec2 --plan plan.toml --vm app",
            "drill --ec2 --plan drill.toml --vm app",
            marks=remedy(
                "give --subnet and --security-group, or [drill] in the plan: a subnet without a route out, and a "
                "security group without outbound rules"
            ),
        ),
        pytest.param(
            DRILL + " --ec2 --subnet SUBNET",
            DRILL + " --ec2 --subnet SUBNET --security-group GROUP",
            marks=remedy("give --subnet and --security-group"),
        ),
        pytest.param(
            "drill --ec2 --all --repo repo --subnet SUBNET --security-group GROUP",
            "drill --ec2 --all --plan drill.toml",
            marks=remedy("give --plan FILE"),
        ),
        pytest.param(
            "drill --ec2 --vm app --vm web --repo repo --subnet SUBNET --security-group GROUP",
            "drill --ec2 --vm app --vm web --plan drill.toml",
            marks=remedy("give --vm NAME once, or --plan FILE"),
        ),
        pytest.param(
            "drill --ec2 --plan drill.toml --all --at 1",
            "drill --ec2 --plan drill.toml --vm app --at 1",
            marks=remedy("give --vm NAME once"),
        ),
        pytest.param(
            DRILL + " --hash --timeout 1",
            DRILL + " --timeout 1",
            marks=remedy("leave it out: every block of a restore point is verified as it is read"),
        ),
    ],
)
def test_it_goes_on(
    world: World, place: dict[str, str], monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    monkeypatch.chdir(world.home)

    def words(line: str) -> list[str]:
        return [place.get(word, word) for word in line.split()]

    assert command(*words(wrong)).code == 2
    assert command(*words(right)).code in (0, 5)  # what its disks hold starts nowhere but where a stand-in says so


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(
            {"controller": "pvscsi", "firmware": "uefi"},
            {"controller": "nvme", "firmware": "uefi"},
            marks=remedy("give --controller as one of {…}"),
        ),
        pytest.param(
            {"controller": "ide", "disks": 5}, {"controller": "nvme", "disks": 5}, marks=remedy("use --controller nvme")
        ),
        pytest.param({"controller": "scsi"}, {"controller": "pvscsi"}, marks=remedy("give one of {…}")),
        pytest.param({"memory_mib": 8}, {"memory_mib": 256}, marks=remedy("give at least {…}")),
    ],
)
def test_the_machine_of_a_drill(wrong: dict[str, Any], right: dict[str, Any]) -> None:
    with pytest.raises(WarmspareError):
        choose({}, "bios", **{"disks": 1, **wrong})
    choose({}, "bios", **{"disks": 1, **right})


@remedy("give another one")
def test_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "verdict.json").write_text("{}")
    with pytest.raises(WarmspareError):
        evidence.make_folder(tmp_path, "vm", tmp_path / "old")
    evidence.make_folder(tmp_path, "vm", tmp_path / "new")
