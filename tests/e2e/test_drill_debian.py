"""Drills of a whole Debian: systemd, its own initramfs, the guest agent as its package starts it. A minute a boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bootdisk
from rig import Rig, command

pytestmark = pytest.mark.slow


def _rig(tmp_path: Path, firmware: str, root: str = f"UUID={bootdisk.ROOT_UUID}") -> Rig:
    rig = Rig(tmp_path)
    bootdisk.build_debian(rig.disk, firmware, root=root)
    rig.sync()
    rig.apply()
    return rig


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_debian_is_ready_and_boots(firmware: str, tmp_path: Path) -> None:
    rig = _rig(tmp_path, firmware)
    checked = command("recover", "check", "--vm", "vm", "--replica", rig.replica)
    assert checked.code == 0 and not checked.last("check.done")["warnings"], checked
    before = rig.replica.stat().st_mtime_ns
    outcome = command(
        "drill",
        "--vm",
        "vm",
        "--replica",
        rig.replica,
        "--evidence",
        tmp_path / "evidence",
        "--expect",
        "drilled login:",
        "--agent",
        "--timeout",
        600,
        "--hash",
    )
    assert outcome.code == 0, outcome
    verdict = json.loads((tmp_path / "evidence/verdict.json").read_text())
    assert verdict["guest"]["id"] == "debian" and verdict["untouched"]
    assert rig.replica.stat().st_mtime_ns == before
    print(f"{firmware}: up after {verdict['boot_seconds']} s by {verdict['machine']['accelerator']}")


def test_a_debian_with_a_wrong_root_is_found_out(tmp_path: Path) -> None:
    rig = _rig(tmp_path, "bios", "UUID=00000000-0000-0000-0000-000000000000")
    checked = command("recover", "check", "--vm", "vm", "--replica", rig.replica)
    assert checked.code == 5 and [each["kind"] for each in checked.all("finding")] == ["root-unknown"]
    outcome = command(
        "drill", "--vm", "vm", "--replica", rig.replica, "--evidence", tmp_path / "evidence", "--timeout", 600
    )
    assert outcome.code == 5 and "Gave up waiting for root" in outcome.last("drill.done")["reason"], outcome
