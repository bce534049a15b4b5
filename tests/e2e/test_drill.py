"""Drills: real disks of Debian's parts, through sync and apply, booted from an overlay of their replicas."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bootdisk
from rig import MIB, Outcome, Rig, command
from rigs.host.hearing import heard
from suite.remedies import obey, remedy, told
from warmspare.observe.events import Events
from warmspare.recover.drills.qemu import qemu_process
from warmspare.recover.drills.qemu.hardware import Hardware
from warmspare.state.local_files import locked

Boot = Callable[..., Outcome]
TIMEOUT_S = 150  # of what is to succeed: this machine may be busy


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bootable disk a firmware."""
    home = tmp_path_factory.mktemp("bootable")
    return {firmware: bootdisk.build(home / f"{firmware}.raw", firmware) for firmware in ("bios", "uefi")}


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


@pytest.fixture
def rig(tmp_path: Path, disks: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A protected BIOS disk with a replica."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path)
    copy(disks["bios"], rig.disk)
    rig.sync()
    rig.apply()
    return rig


def drill(rig: Rig, *more: object, vm: str | None = None, replica: Path | None = None, code: int = 0) -> Outcome:
    named = [] if "--vm" in more else ["--vm", vm or rig.vm]
    outcome = command("drill", *named, "--replica", replica or rig.replica, "--evidence", rig.home / "evidence", *more)
    assert outcome.code == code, outcome
    return outcome


def state(path: Path) -> tuple[str, int, int]:
    """All that could show a write."""
    found = path.stat()
    return hashlib.sha256(path.read_bytes()).hexdigest(), found.st_mtime_ns, found.st_ctime_ns


def verdict(rig: Rig) -> dict[str, object]:
    """verdict.json, held to what it says of the other files."""
    folder = rig.home / "evidence"
    got: dict[str, object] = json.loads((folder / "verdict.json").read_text())
    files = got["files"]
    assert isinstance(files, dict)
    assert {*files, "verdict.json"} == {path.name for path in folder.iterdir()}  # no overlay is left
    for name, stated in files.items():
        data = (folder / name).read_bytes()
        assert stated == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return got


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and data.rstrip().endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def machines(folder: Path) -> list[int]:
    """Process IDs of QEMUs whose evidence goes there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"qemu-system" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                found += [int(process.name)] if (process / "fd/2").readlink() == folder / "qemu.log" else []
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_replica_boots_and_stays_as_it_is(
    firmware: str, disks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path)
    copy(disks[firmware], rig.disk)
    rig.sync()
    # The second point makes the replica one that was moved.
    bootdisk.write_at(rig.disk, 120 * MIB, b"changed since" * 100)
    rig.sync()
    rig.apply()
    before = state(rig.replica)
    outcome = drill(rig, "--expect", bootdisk.PROMPT, "--agent", "--timeout", TIMEOUT_S, "--hash")
    assert state(rig.replica) == before
    done = outcome.last("drill.done")
    assert done["passed"] and done["untouched"] and done["boot_seconds"] > 0
    got = verdict(rig)
    assert got["passed"] is True and got["judged_by"] == "serial and agent" and got["timeout_seconds"] == TIMEOUT_S
    point = rig.point_path(2)
    assert got["point"] == {
        "sequence": 2,
        "sha256": hashlib.sha256(point.read_bytes()).hexdigest(),
        "label": done["point"],
        "created": rig.point(2).created,
    }
    (disk,) = got["disks"]  # type: ignore[misc]
    assert disk["root"] == rig.point(2).disks[0].root
    assert disk["before"] == disk["after"] and disk["before"]["sha256"] == before[0]
    assert disk["before"]["mtime_ns"] == before[1]
    assert got["guest"]["pretty-name"] == "tinybox of Debian's parts"  # type: ignore[index]
    machine = got["machine"]
    assert machine["firmware"] == firmware and machine["firmware_by"] == "partition table"  # type: ignore[index]
    line = machine["command"]  # type: ignore[index]
    assert line[line.index("-nic") + 1] == "none" and str(rig.replica) not in " ".join(line)
    assert bootdisk.PROMPT.encode() in (rig.home / "evidence/serial.log").read_bytes()
    assert png_size(rig.home / "evidence/screenshot.png")[0] >= 640
    assert not machines(rig.home / "evidence")


def _no_boot_code(disk: Path) -> None:
    bootdisk.write_at(disk, 0, bytes(440))


def _halting_boot_code(disk: Path) -> None:
    bootdisk.write_at(disk, 0, b"\xfa\xf4\xeb\xfd" + bytes(436))  # cli; hlt; and once more


def _no_table(disk: Path) -> None:
    bootdisk.write_at(disk, 0, bytes(512))


def _wrong_root(disk: Path) -> None:
    data = disk.read_bytes()
    right = f"root=UUID={bootdisk.ROOT_UUID} ro".encode()
    assert data.count(right) == 2
    disk.write_bytes(data.replace(right, right.replace(b"6c8d2f0a", b"00000000")))


def _other_loader(disk: Path) -> None:
    data = disk.read_bytes()
    assert data.count(b"BOOTX64 EFI") == 1
    disk.write_bytes(data.replace(b"BOOTX64 EFI", b"BOOTIA32EFI"))


FAILURES = [
    ("bios", _halting_boot_code, 10, "the serial port stayed silent"),
    # The firmware runs the zeros and whatever memory comes after them: nobody says where that ends.
    ("bios", _no_boot_code, 10, "the serial port stayed silent|nothing to boot"),
    ("bios", _no_table, 90, "nothing to boot"),
    ("bios", _wrong_root, 120, "Gave up waiting for root"),
    ("uefi", _other_loader, 120, "the firmware finds no"),  # nothing to boot, or no boot loader: what it says first
]


@pytest.mark.parametrize(("firmware", "hurt", "timeout", "reason"), FAILURES, ids=[f[1].__name__ for f in FAILURES])
def test_a_replica_that_does_not_boot_is_found_out(
    firmware: str, hurt: Callable[[Path], None], timeout: int, reason: str, disks: dict[str, Path], tmp_path: Path
) -> None:
    rig = Rig(tmp_path)
    copy(disks[firmware], rig.disk)
    hurt(rig.disk)
    rig.sync()
    rig.apply()
    before = state(rig.replica)
    outcome = drill(rig, "--timeout", timeout, "--firmware", firmware, code=5)
    assert state(rig.replica) == before
    done = outcome.last("drill.done")
    assert not done["passed"] and done["untouched"] and re.search(reason, done["reason"]), done
    assert re.search(reason, outcome.stderr) and "does not boot from restore point 1-" in outcome.stderr
    got = verdict(rig)
    assert got["passed"] is False and got["boot_seconds"] is None and got["reason"] == done["reason"]
    assert png_size(rig.home / "evidence/screenshot.png")[0] >= 640


@contextlib.contextmanager
def running(rig: Rig, *more: object) -> Iterator[subprocess.Popen[str]]:
    """A drill as a process of its own, whose machine is on."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "warmspare",
            "drill",
            "--vm",
            rig.vm,
            "--replica",
            str(rig.replica),
            "--evidence",
            str(rig.home / "evidence"),
            "--expect",
            "what never comes",
            "--json",
            *map(str, more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: (rig.home / "evidence/serial.log").exists() or child.poll() is not None, "a machine")
        assert child.poll() is None, child.communicate()
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_nothing_moves_a_replica_while_it_is_drilled_and_nothing_is_left_of_a_drill_that_is_ended(rig: Rig) -> None:
    before = state(rig.replica)
    with running(rig) as child:
        (machine,) = machines(rig.home / "evidence")
        rig.apply(code=6)
        assert "another drill or check is reading it" in drill(rig, "--timeout", 5, code=6).stderr
        # QEMU has the replica open for reading, and there is neither a listener nor a named overlay.
        opened = {str(fd.readlink()): fd for fd in Path(f"/proc/{machine}/fd").iterdir()}
        flags = (Path(f"/proc/{machine}/fdinfo") / opened[str(rig.replica)].name).read_text()
        found = re.search(r"^flags:\s+0(\d+)$", flags, re.MULTILINE)
        assert found and int(found[1], 8) & os.O_ACCMODE == os.O_RDONLY
        listening = subprocess.run(["ss", "-lnxtup"], capture_output=True, text=True, check=True).stdout
        assert f"pid={machine}," not in listening
        assert not [path for path in (rig.home / "evidence").iterdir() if path.suffix not in (".log", ".png")]
        child.send_signal(signal.SIGTERM)
        _, stderr = child.communicate(timeout=60)
        assert child.returncode == 130, stderr
    assert not machines(rig.home / "evidence") and not (rig.home / "evidence/verdict.json").exists()
    assert state(rig.replica) == before
    rig.apply()


def test_a_drill_that_is_killed_takes_its_machine_with_it(rig: Rig) -> None:
    before = state(rig.replica)
    with running(rig) as child:
        assert machines(rig.home / "evidence")
        child.kill()
        child.communicate()
    wait_until(lambda: not machines(rig.home / "evidence"), "the machine's end")
    assert {path.name for path in (rig.home / "evidence").iterdir()} <= {"serial.log", "firmware.log", "qemu.log"}
    assert state(rig.replica) == before
    rig.apply()


@remedy("drill again")
def test_a_machine_that_dies_is_no_verdict(rig: Rig) -> None:
    """QEMU is killed: by the kernel, say, where memory runs out."""
    before = state(rig.replica)
    with running(rig) as child:
        while child.poll() is None:  # where KVM is, it is tried again without
            for machine in machines(rig.home / "evidence"):
                os.kill(machine, signal.SIGKILL)
            time.sleep(0.05)
        _, stderr = child.communicate(timeout=60)
        assert child.returncode == 8 and "QEMU ended with code -9" in stderr, stderr
    assert not (rig.home / "evidence/verdict.json").exists() and state(rig.replica) == before
    told(stderr)
    shutil.rmtree(rig.home / "evidence")
    assert "within 2 s" in drill(rig, "--timeout", 2, "--expect", "what never comes", code=5).stderr


def test_disks_hang_in_the_order_of_the_vm(tmp_path: Path, disks: dict[str, Path]) -> None:
    """The boot disk is the VM's first, though its replica was not the first by name, and the rest are there too."""
    rig = Rig(tmp_path)
    boot, data = tmp_path / "z-boot.raw", tmp_path / "a-data.raw"
    copy(disks["bios"], boot)
    data.write_bytes(os.urandom(MIB) + bytes(3 * MIB))
    rig.sync(disks=[boot, data])
    replica = tmp_path / "replicas"
    rig.apply(to=replica)
    drill(rig, "--timeout", TIMEOUT_S, "--controller", "pvscsi", replica=replica)
    log = (rig.home / "evidence/serial.log").read_text(errors="replace")
    # The controller's number and the disks' letters are the kernel's choice, their addresses on the bus are ours.
    assert re.search(r"sd \d+:0:0:0: \[sd.\] 262144 512-byte logical blocks", log)
    assert re.search(r"sd \d+:0:1:0: \[sd.\] 8192 512-byte logical blocks", log)
    got = verdict(rig)
    assert [disk["id"] for disk in got["disks"]] == ["z-boot.raw", "a-data.raw"]  # type: ignore[attr-defined]


def test_what_can_not_be_drilled_is_refused_before_anything_starts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rig.home / "evidence"
    refusals: list[tuple[list[object], int, str]] = [
        (["--firmware", "coreboot"], 2, "--firmware is 'coreboot'"),
        (["--firmware", "uefi", "--controller", "pvscsi"], 2, "can't start from pvscsi"),
        (["--memory", 16], 2, "--memory is 16 MiB"),
        (["--expect", ""], 2, "--expect needs a text"),
        (["--vm", "another"], 2, "is a replica of VM 'vm'"),
        (["--replica", rig.home / "nothing"], 2, "there is no replica here"),
        (["--replica", rig.disk], 2, "this is no replica"),
    ]
    for more, code, message in refusals:
        for dry in ([], ["--dry-run"]):
            outcome = drill(rig, *more, *dry, code=code)
            assert message in outcome.stderr, (more, outcome)
            assert not folder.exists(), more
    monkeypatch.setenv("PATH", str(rig.home))
    monkeypatch.setattr("warmspare.recover.disks.programs._ELSEWHERE", str(rig.home))
    for dry in ([], ["--dry-run"]):
        assert "is not installed; install the package" in drill(rig, *dry, code=2).stderr


def test_a_replica_that_is_not_whole_is_not_drilled(rig: Rig) -> None:
    with rig.replica.open("r+b") as file:
        file.truncate(bootdisk.DISK_MIB * MIB - 1)
    assert "has 134217727 bytes" in drill(rig, code=5).stderr
    # Killed on the way to the next point: neither the one nor the other.
    record = rig.home / "replica.raw.warmspare/replica.json"
    from warmspare.model.ids import PointId
    from warmspare.state.local_files import read_record, write_record
    from warmspare.state.replica_record import STATE, ReplicaRecord

    was = read_record(record, ReplicaRecord, STATE, Events())
    assert was and was.at
    moving = ReplicaRecord(was.format, was.repository, was.uri, was.vm, was.at, PointId(2, "0" * 64), was.disks)
    write_record(record, moving, STATE)
    assert "between two restore points" in drill(rig, code=5).stderr
    record.write_bytes(b"nonsense")
    assert "state is damaged" in drill(rig, code=2).stderr


def test_a_dry_run_says_what_would_be_booted(rig: Rig) -> None:
    before = rig.snapshot(), rig.replica.read_bytes()
    for replica in (["--replica", rig.replica], []):
        words = ("drill", "--vm", "vm", "--repo", rig.repo, *replica, "--memory", 256, "--dry-run")
        outcome = command(*words)
        assert outcome.code == 0, outcome
        [said] = outcome.all("would")
        assert said["action"].startswith("boot 'vm' at restore point 1-") and "256 MiB, and end it" in said["action"]
        assert "disks on nvme" in said["action"] and outcome.events[-1] == {"event": "would.done", "count": 1}
    assert (rig.snapshot(), rig.replica.read_bytes()) == before
    assert command("drills").code == 2, "none is recorded"


def test_an_evidence_folder_is_never_overwritten(rig: Rig) -> None:
    (rig.home / "evidence").mkdir()
    (rig.home / "evidence/of-last-time").write_text("kept")
    for dry in ([], ["--dry-run"]):
        assert "is not empty" in drill(rig, *dry, code=2).stderr
    assert [path.name for path in (rig.home / "evidence").iterdir()] == ["of-last-time"]


def test_a_drill_goes_on_without_the_repository_and_says_so(rig: Rig) -> None:
    Path(rig.repo).rename(rig.home / "away")
    outcome = drill(rig, "--timeout", 2, "--expect", "what never comes", code=5)
    assert any("the repository could not be read" in each["message"] for each in outcome.all("drill.note"))
    got = verdict(rig)
    assert got["point"]["created"] is None and got["disks"][0]["root"] is None  # type: ignore[index]
    assert "within 2 s there was no 'what never comes' on the serial port" in str(got["reason"])


def test_a_replica_of_a_record_that_was_replaced_is_not_drilled(rig: Rig) -> None:
    path = rig.point_path(1)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"\n")
    assert "the replica is at restore point 1-" in drill(rig, code=5).stderr


def test_a_replica_that_is_moving_is_not_drilled(rig: Rig) -> None:
    with locked(rig.home / "replica.raw.warmspare/still", "a test") as mine:
        assert mine
        assert "an apply is moving this replica" in drill(rig, code=6).stderr


def test_an_apply_that_follows_waits_for_a_drill_and_goes_on(rig: Rig) -> None:
    """The usual arrangement: a service follows, and a timer drills at night."""
    words = [
        sys.executable,
        "-m",
        "warmspare",
        "apply",
        "--vm",
        rig.vm,
        "--repo",
        rig.repo,
        "--to",
        str(rig.replica),
        "--follow",
        "--json",
    ]
    follower = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert follower.stdout
    try:
        assert next(e for e in map(heard, follower.stdout) if e["event"] == "apply.done")["point"].startswith("1-")
        before = state(rig.replica)
        with running(rig) as child:
            bootdisk.write_at(rig.disk, 120 * MIB, b"changed since" * 100)
            rig.sync()
            waiting = next(e for e in map(heard, follower.stdout) if e["event"] == "apply.waiting")
            assert "a drill or a readiness check is reading this replica" in waiting["message"]
            assert state(rig.replica) == before
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=60)
        assert next(e for e in map(heard, follower.stdout) if e["event"] == "apply.done")["point"].startswith("2-")
        assert hashlib.sha256(rig.replica.read_bytes()).digest() == hashlib.sha256(rig.disk.read_bytes()).digest()
    finally:
        follower.kill()
        follower.communicate()


@remedy("mend what it says, and drill again")
def test_a_machine_that_can_not_be_started_is_no_verdict(rig: Rig) -> None:
    """QEMU refuses its command line: exit code 8, what it said, and no verdict."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmspare.recover.disks.closed_qemu._SANDBOX", "on,nonsense=yes")
        outcome = drill(rig, code=8)
    assert "QEMU did not start" in outcome.stderr and "nonsense" in outcome.stderr
    assert not (rig.home / "evidence/verdict.json").exists()
    shutil.rmtree(rig.home / "evidence")
    assert "no 'what never comes'" in drill(rig, "--timeout", 2, "--expect", "what never comes", code=5).stderr


@remedy(
    "find out what writes to it, and then run {…}",
    "look at the screenshot and the serial log there, and run {…}: it says what to mend",
)
def test_a_replica_that_someone_writes_to_during_a_drill_is_told(rig: Rig) -> None:
    writer = threading.Timer(1.5, bootdisk.write_at, (rig.replica, 125 * MIB, b"not by the drill"))
    writer.start()
    try:
        outcome = drill(rig, "--timeout", 6, "--expect", "what never comes", code=5)
    finally:
        writer.join()
    assert "was written to during the drill" in outcome.stderr and not outcome.last("drill.done")["untouched"]
    assert verdict(rig)["untouched"] is False
    obey(outcome.last("error")["hint"], code=5)  # it finds what was written, and takes it back
    shutil.rmtree(rig.home / "evidence")
    outcome = drill(rig, "--timeout", 2, "--expect", "what never comes", code=5)
    assert outcome.last("drill.done")["untouched"]
    obey(outcome.last("error")["hint"])  # its disk is sound: nothing is found


def test_a_guest_that_floods_its_serial_port_does_not_fill_the_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.drills.qemu.serial.MAX_LOG_BYTES", 4096)
    outcome = drill(rig, "--timeout", TIMEOUT_S, "--expect", bootdisk.PROMPT)
    assert outcome.last("drill.done")["passed"]  # what came after the bound was still read
    assert (rig.home / "evidence/serial.log").stat().st_size == 4096


async def test_a_machine_answers_before_anyone_reads_its_ports(tmp_path: Path) -> None:
    """A BIOS talks to its debug port from the first moment, and QEMU stands still once that is not read: it must not
    run before it is."""
    hardware = Hardware("bios", "option", "nvme", 1, 256)
    with contextlib.ExitStack() as stack:
        async with qemu_process.started(hardware, [], "tcg", tmp_path, stack) as machine:
            await asyncio.sleep(1)
            assert (await machine.version()).startswith(tuple("123456789"))
            process = machine.process
    assert process.returncode is not None
