"""A recovery plan rehearsed in QEMU: restore points of Debian's parts, as many at once as this host has room for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bootdisk
from rig import Outcome, Rig, command
from warmspare.recover.drills.qemu import hardware


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """Two VMs that boot, and one that never does, in one repository."""
    home = tmp_path_factory.mktemp("plan")
    disk = bootdisk.build(home / "disk.raw", "bios")
    for name in ("dc", "web", "hurt"):
        rig = Rig(home, vm=name)
        if name == "hurt":
            bootdisk.write_at(disk, 0, b"\xfa\xf4\xeb\xfd" + bytes(436))  # cli; hlt; and once more
        rig.sync(state=home / f"state-{name}")
    return rig


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


def rehearse(rig: Rig, tmp_path: Path, vms: str, *more: object) -> Outcome:
    plan = tmp_path / "plan.toml"
    plan.write_text(f'repository = "{rig.repo}"\nrto = "1s"\n[defaults]\nready_within = "150s"\n{vms}')
    return command("drill", "--plan", plan, *(more or ["--all"]), "--evidence", tmp_path / "evidence")


def test_a_plan_comes_up_in_its_order(rig: Rig, tmp_path: Path) -> None:
    outcome = rehearse(rig, tmp_path, "[vm.dc]\norder = 1\n[vm.web]\norder = 2\n")
    assert outcome.code == 0, outcome
    done, started = outcome.last("rehearsal.done"), outcome.last("rehearsal.start")
    assert "can't reach one another" in started["note"] and started["where"] == "qemu"
    kept = json.loads(Path(done["record"]).read_text())
    assert kept["notes"] == [started["note"]]
    first, second = kept["steps"]
    assert first["ready_seconds"] <= second["due_seconds"] and second["boot_seconds"]
    # What emulation takes here says nothing of AWS: it is told, and fails nothing.
    assert kept["within"] is False and kept["result"] == "passed" and first["within"] is False
    for step in kept["steps"]:
        assert step["verdict_sha256"] and (tmp_path / "evidence" / step["vm"] / "serial.log").exists()


def test_one_that_never_boots_and_one_that_waits_for_memory(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "room", lambda: 256)  # MiB: one machine at a time
    plan = '[vm.hurt]\nready_within = "8s"\nfirmware = "bios"\n[vm.web]\n'
    outcome = rehearse(rig, tmp_path, plan, "--all", "--expect", bootdisk.PROMPT)
    assert outcome.code == 5 and "1 of 2 VMs did not come up: 'hurt'" in outcome.stderr, outcome
    kept = json.loads(Path(outcome.last("rehearsal.done")["record"]).read_text())
    hurt, web = kept["steps"]
    assert (hurt["result"], web["result"]) == ("failed", "passed")
    assert max(hurt["waited_seconds"], web["waited_seconds"]) > 1


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--all", "--replica", "/tmp"], "--replica goes without --plan"),
        (["--all", "--subnet", "subnet-0123456789abcdef0"], "--subnet goes with --ec2"),
        (["--vm", "nobody"], "there is no VM 'nobody' in the recovery plan"),
    ],
)
def test_what_is_asked_wrongly(rig: Rig, tmp_path: Path, given: list[str], word: str) -> None:
    outcome = rehearse(rig, tmp_path, "[vm.dc]\n", *given)
    assert outcome.code == 2 and word in outcome.last("error")["message"], outcome


def test_a_vm_of_the_plan_that_has_no_point(rig: Rig, tmp_path: Path) -> None:
    outcome = rehearse(rig, tmp_path, "[vm.dc]\n[vm.lost]\n")
    assert outcome.code == 2 and [each["vm"] for each in outcome.all("rehearsal.missing")] == ["lost"]
    assert not outcome.all("rehearsal.start")
