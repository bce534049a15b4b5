"""Drills on media that really fail: the host's own trouble is no verdict on a guest."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from rig import MIB, Outcome, Rig, command
from rigs.host import media
from suite.remedies import remedy
from warmspare.recover.drills.qemu import qemu_process

SIZE = 64 * MIB
WRITES, READS = 3, 2  # functions of the BIOS


def boot_sector(function: int) -> bytes:
    """It has the BIOS read or write a track of one cylinder after the other, for ever.

    xor ax,ax; mov es,ax; mov ds,ax; mov cx,0x101; again: mov ax,function<<8|63; mov bx,0x7e00; mov dx,0x80; int 0x13;
    inc ch; jmp again
    """
    code = bytes.fromhex("31c08ec08ed8b90101") + bytes([0xB8, 63, function]) + bytes.fromhex("bb007eba8000cd13fec5ebf1")
    return code.ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return Rig(tmp_path)


def protect(rig: Rig, function: int) -> None:
    with rig.disk.open("wb") as file:
        file.write(boot_sector(function))
        file.seek(8 * MIB)
        file.write(random.Random(1).randbytes(MIB))
        file.truncate(SIZE)
    rig.sync()


def drill(rig: Rig, replica: Path, evidence: Path, *more: object) -> Outcome:
    words = ["drill", "--vm", rig.vm, "--replica", replica, "--evidence", evidence, "--firmware", "bios"]
    return command(*words, "--memory", 256, "--timeout", 120, "--expect", "what never comes", *more)


@remedy("make room where the evidence is kept, and drill again")
def test_no_room_for_what_the_guest_writes(rig: Rig) -> None:
    protect(rig, WRITES)
    rig.apply()
    with media.tmpfs(rig.home / "small", "size=1m") as place:
        done = drill(rig, rig.replica, place / "evidence")
        assert done.code == 8, done
        assert "what the guest writes can't be kept" in done.stderr
        assert not (place / "evidence" / "verdict.json").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
        shutil.rmtree(place / "evidence")
        words = ["--timeout", 5]  # nothing but writing is what its guest does
        assert "within 5 s" in drill(rig, rig.replica, place / "evidence", *words).stderr


@pytest.mark.parametrize(
    "kept_bytes, code, says",
    [
        (0, 8, "a disk of the VM can't be read"),  # also where the table of partitions is looked for
        (MIB, 8, "a disk of the VM can't be read"),  # only where the guest reads
    ],
)
def test_a_replica_that_gives_errors(rig: Rig, tmp_path: Path, kept_bytes: int, code: int, says: str) -> None:
    protect(rig, READS)
    backing, state = tmp_path / "spare", tmp_path / "spare-state"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    with media.device(backing) as path:
        rig.apply("--state", state, "--initialize", to=path)
        media.break_from(path, backing, 32 * MIB, kept_bytes=kept_bytes)
        done = drill(rig, path, rig.home / "evidence", "--state", state)
    assert done.code == code and says in done.stderr, done
    assert not (rig.home / "evidence" / "verdict.json").exists()


def test_no_room_for_the_evidence_itself(rig: Rig) -> None:
    protect(rig, WRITES)
    rig.apply()
    with media.tmpfs(rig.home / "small", "size=1m") as place:
        media.fill(place)
        done = drill(rig, rig.replica, place / "evidence")
        assert done.code in (4, 8) and "No space left" in done.stderr, done
        assert subprocess.run(["pgrep", "-f", str(place)], capture_output=True).returncode == 1


def test_a_machine_that_hangs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does whose medium never answers: stopped, right after it was switched on."""
    power_on = qemu_process.QemuMachine.power_on

    async def and_stop(machine: qemu_process.QemuMachine) -> None:
        await power_on(machine)
        os.kill(machine.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(qemu_process, "START_S", 0.5)
        monkeypatch.setattr(qemu_process, "STOP_S", 0.5)

    monkeypatch.setattr(qemu_process.QemuMachine, "power_on", and_stop)
    monkeypatch.setattr(qemu_process, "accelerators", lambda firmware: ["tcg"])
    protect(rig, READS)
    rig.apply()
    done = drill(rig, rig.replica, rig.home / "evidence")
    assert done.code == 8 and "QEMU has not answered" in done.stderr, done
    assert not (rig.home / "evidence" / "verdict.json").exists()
