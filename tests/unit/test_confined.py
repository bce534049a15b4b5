"""The process of its own in which a guest's files are read: each limit, each end, and what it can't reach."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rigs.paths import TESTS
from warmspare.errors import RecoverError
from warmspare.recover.disks import programs
from warmspare.recover.disks.confined import ConfinedAnswer, ProcessLimits, Say, Spent, confined
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind
from warmspare.recover.readiness.check import made_for
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.readiness_report import MOST_OF_A_KIND, MOST_TEXT, ReadinessReport, heard

SMALL = ProcessLimits(memory_bytes=64 << 20, cpu_s=1, wall_s=60.0, output_bytes=1 << 16)


async def ended(work: Callable[[Say], None], limits: ProcessLimits = SMALL) -> ConfinedAnswer:
    async with asyncio.timeout(120):
        return await confined(work, [], limits)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.01)


async def gone(*pids: int) -> None:
    await until(lambda: not any(map(alive, pids)))


async def test_what_it_says_is_heard() -> None:
    def work(say: Say) -> None:
        say(b"one")
        say(b"")
        say(b"pid %d group %d" % (os.getpid(), os.getpgid(0)))

    said = await ended(work)
    assert said.lines[:2] == [b"one", b""] and not said.ended
    _, pid, _, group = said.lines[2].split()
    assert pid == group != b"%d" % os.getpid()


async def test_memory_is_held_by_the_kernel_and_the_work_goes_on() -> None:
    def data_mib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() >> 20

    def work(say: Say) -> None:
        kept, before, grown = [], data_mib(), 0
        try:
            while True:
                kept.append(bytearray(1 << 20))
                grown = data_mib() - before  # what was free in the heap before is no growth
        except MemoryError:
            kept.clear()
        say(b"%d" % grown)

    said = await ended(work)
    assert not said.ended and 32 <= int(said.lines[0]) <= 64


@pytest.mark.long
async def test_cpu_time_ends_the_work_and_then_the_process() -> None:
    def work(say: Say) -> None:
        try:
            while True:
                pass
        except Spent as spent:
            say(str(spent).encode())

    said = await ended(work)
    assert said.lines == [b"the 1 s of CPU that a check may take are used up"] and not said.ended

    def deaf(say: Say) -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        say(b"begun")
        while True:
            pass

    said = await ended(deaf)
    assert said.lines == [b"begun"] and said.ended.startswith("it was killed: by the kernel after 3 s of CPU")


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda say: ctypes.string_at(1), "it died of signal 11"),
        (lambda say: os._exit(3), "it ended with 3"),
        (lambda say: 1 // 0, "it ended with 1"),
        (lambda say: os.kill(os.getpid(), signal.SIGTERM), "it died of signal 15"),
        (lambda say: [say(b"x" * 1000) for _ in range(1000)], "it says more than 64 KiB"),
    ],
)
async def test_however_it_ends_that_is_told(work: Callable[[Say], None], why: str) -> None:
    said = await ended(work)
    assert said.ended == why and sum(map(len, said.lines)) <= SMALL.output_bytes


async def test_it_is_ended_when_it_hangs_or_when_it_is_enough() -> None:
    said = await ended(lambda say: time.sleep(600), ProcessLimits(wall_s=0.5))
    assert said.ended == "it was ended after 0 s"
    said = await confined(lambda say: time.sleep(600), [], ProcessLimits(), lambda: "that is enough")
    assert said.ended == "that is enough"


async def test_it_reaches_no_descriptor_but_those_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"given")
    (tmp_path / "b").write_bytes(b"not")

    def work(say: Say) -> None:
        names = set()
        for fd in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # that of the list itself
                names.add(str(fd.readlink()))
        say(" ".join(sorted(names)).encode())
        say(os.pread(given.fileno(), 5, 0))

    with (tmp_path / "a").open("rb") as given, (tmp_path / "b").open("rb"):
        said = await confined(work, [given.fileno()], SMALL)
    names, content = said.lines
    assert content == b"given" and not said.ended
    assert [name for name in names.decode().split() if not name.startswith("socket:")] == ["/dev/null", f"{tmp_path}/a"]


async def test_signals_of_this_process_are_not_handled_there() -> None:
    loop = asyncio.get_running_loop()
    handled: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: handled.append(1))
    try:
        said = await ended(lambda say: os.kill(os.getpid(), signal.SIGUSR1))
        assert said.ended == f"it died of signal {signal.SIGUSR1:d}"
        await asyncio.sleep(0.05)
        assert not handled
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: bool(handled))
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


def _spins(pids: Path) -> Callable[[Say], None]:
    """Work that never ends, with a program that it has started; both leave their process IDs."""

    def work(say: Say) -> None:
        script = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
        with programs.output_of(sys.executable, "-c", script) as output:
            pids.write_text(f"{os.getpid()} {int(output.readline())}")
            while True:
                pass

    return work


async def _started(pids: Path) -> list[int]:
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    return [int(pid) for pid in pids.read_text().split()]


@pytest.mark.program
async def test_a_cancel_ends_it_and_its_programs(tmp_path: Path) -> None:
    task = asyncio.create_task(confined(_spins(tmp_path / "pids"), [], ProcessLimits()))
    both = await _started(tmp_path / "pids")
    began_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(both[0]) and time.monotonic() - began_s < 30
    await gone(*both)


async def test_both_end_soon_after_this_process_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from unit.test_confined import ProcessLimits, _spins, confined;"
        f"asyncio.run(confined(_spins(Path({str(tmp_path / 'pids')!r})), [], ProcessLimits()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment)
    try:
        both = await _started(tmp_path / "pids")
    finally:
        parent.kill()
        await parent.wait()
    await gone(*both)


@pytest.mark.program
async def test_a_table_that_can_not_be_read_asks_for_the_firmware(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a disk is made for, as a drill asks: the same process, with the same limits."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with disk.open("rb") as file:
        held = HeldDisk("d", disk, 1 << 20, file.fileno())
        assert await made_for(held) == "bios"

        def table(*_: object) -> None:
            raise programs.Exceeded("sfdisk died of signal 11")

        monkeypatch.setattr(partition_tables, "read", table)
        with pytest.raises(RecoverError, match="give --firmware"):
            await made_for(held)


async def test_a_process_that_can_not_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(RecoverError, match="no process can be started"):
        await ended(lambda say: None)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


# reports


def test_a_report_is_bounded_in_length_and_number() -> None:
    lines: list[bytes] = []
    report = ReadinessReport(lines.append)
    with report.whole():
        for number in range(5000):
            report.add(
                BootFinding(BootFindingKind.FSTAB_BY_NAME, "disk", f"line {number} " + "\ud800" * 5000, "x" * 5000)
            )
    findings, *_ = heard(ConfinedAnswer(lines, ""))
    assert len(findings) == MOST_OF_A_KIND + 1 and findings[-1].found == f"{5000 - MOST_OF_A_KIND} more of this kind"
    assert all(len(each.place) <= MOST_TEXT and len(each.found) <= MOST_TEXT for each in findings)
    assert findings[0].found.endswith("x…") and all(each.place.encode() for each in findings)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (MemoryError(), "more memory than"),
        (programs.Exceeded("blkid died of signal 11"), "blkid died of signal 11"),
        (ValueError("odd"), "a fault of warmspare's own, which should be reported: ValueError at test_confined.py:"),
    ],
)
def test_what_fails_is_a_finding_and_keeps_nothing_else_from_being_judged(error: Exception, why: str) -> None:
    lines: list[bytes] = []
    report = ReadinessReport(lines.append)
    with report.whole():
        with report.part("disk", "a file"):
            raise error
        report.add(BootFinding(BootFindingKind.WINDOWS, "disk", "after it"))
    (failed, after), *_ = heard(ConfinedAnswer(lines, ""))
    assert (failed.kind, failed.place) == (BootFindingKind.NOT_JUDGED, "a file") and why in failed.found
    assert after.kind is BootFindingKind.WINDOWS


def test_what_was_found_before_a_limit_stands_and_what_came_after_is_said_to_be_missing() -> None:
    lines: list[bytes] = []
    report = ReadinessReport(lines.append)
    with report.whole(), contextlib.ExitStack():
        report.add(BootFinding(BootFindingKind.WINDOWS, "disk", "before"))
        with report.part("disk", "a file"):
            raise Spent("all is used up")
    before, spent = heard(ConfinedAnswer(lines, ""))[0]
    assert before.kind is BootFindingKind.WINDOWS
    assert spent.found == "all is used up; nor was anything that comes after it" and spent.place == "a file"
    # The same where the process was killed, whatever it had said of half a line.
    before, killed = heard(ConfinedAnswer([*lines[:2], b'{"type":"fo'], "it died of signal 9"))[0]
    assert (killed.kind, killed.place) == (
        BootFindingKind.NOT_JUDGED,
        "a file",
    ) and "it died of signal 9" in killed.found
    (odd,) = heard(ConfinedAnswer([b'{"type":"found","kind":"no-such","disk":"","place":"","found":""}'], ""))[0]
    assert odd.kind is BootFindingKind.NOT_JUDGED and "can't be understood" in odd.found
