"""What a command that is asked to end still takes back, what it says of it, and what it leaves to the next run."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmspare
from rig import KIB, MIB, Rig, random_disk
from rigs.host.hearing import all_heard, heard
from rigs.kills.interrupts import (
    HANGING,
    HUNG,
    MOST_S,
    WAITING,
    Case,
    full_pipe,
    left,
    running,
    started,
    temporary,
    until,
)
from warmspare import children
from warmspare.model.keyparts import encode_name
from warmspare.store import layout
from warmspare.store.lease import Holder

SLACK_S = 8.0  # this machine may be busy; test_signals.py measures
LEASE_S = 5.0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """With a restore point. Whatever a test leaves there, the next command copes with."""
    rig = Rig(tmp_path_factory.mktemp("ends"))
    random_disk(rig.disk, 3 * MIB, random.Random(1))
    rig.sync()
    with rig.disk.open("r+b") as file:
        file.write(random.Random(2).randbytes(8 * KIB))
    return rig


@pytest.fixture
def sending(rig: Rig) -> Iterator[subprocess.Popen[bytes]]:
    """A sync that is stuck in the store, in a thread that nothing can end; the store goes on otherwise."""
    child = hung(rig, "one")
    yield child
    child.kill()
    child.communicate()


def hung(rig: Rig, which: str) -> subprocess.Popen[bytes]:
    words = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--json"]
    environment = {"HANG_AT": "FileUpload._write", "HANG": which}
    child = started(Case("hung", words, 0, environment, ("-c", HUNG), stdout=subprocess.PIPE), rig.home)
    until(child, "HANGING")
    return child


def lease(rig: Rig) -> Holder | None:
    return Holder.decode((Path(rig.repo) / layout.lease_key(encode_name(rig.vm))).read_bytes())


def test_a_thread_that_hangs_gives_back_its_lease(rig: Rig, sending: subprocess.Popen[bytes]) -> None:
    before = lease(rig)
    assert before and not before.free
    began = time.monotonic()
    sending.send_signal(signal.SIGTERM)
    code, stderr = left(sending)
    assert code == 130 and time.monotonic() - began < MOST_S + LEASE_S + SLACK_S
    assert stderr == "warmspare: interrupted; run the same command again, it goes on from here\n"
    after = lease(rig)
    assert after and after.free
    rig.sync()
    rig.apply()


def test_a_store_that_hangs_names_what_it_leaves_and_the_next_run_takes_it(rig: Rig) -> None:
    child = hung(rig, "all")
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    stderr = err.decode()
    took = time.monotonic() - began
    assert child.returncode == 130 and took < MOST_S + LEASE_S + SLACK_S
    what = f"the lease {rig.repo}/{layout.lease_key(encode_name(rig.vm))}"
    assert f"warmspare: interrupted: taking back {what}, for at most 5 s; a second signal leaves it\n" in stderr
    assert stderr.endswith(
        f"warmspare: interrupted; left to the next run: {what}; run the same command again, it goes on from here\n"
    )
    events = all_heard(out)
    told = [event for event in events if event["event"] == "interrupted"]
    assert told and told[0]["what"] == what and told[0]["within_seconds"] == LEASE_S
    assert events[-1]["event"] == "error" and events[-1]["left"] == [what] and events[-1]["exit_code"] == 130
    held = lease(rig)
    assert held and not held.free
    rig.sync()


def test_a_second_signal_leaves_it_at_once(rig: Rig) -> None:
    child = hung(rig, "all")
    child.send_signal(signal.SIGTERM)
    until(child, "taking back the lease")
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code, stderr = left(child)
    assert code == 130 and time.monotonic() - began < 1.0 + SLACK_S
    assert "left to the next run: the lease" in stderr
    rig.sync()


def test_signals_in_the_same_moment_are_one(rig: Rig, sending: subprocess.Popen[bytes]) -> None:
    """As `timeout` sends them, and a terminal beside a service manager."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        sending.send_signal(number)
    code, stderr = left(sending)
    after = lease(rig)
    assert code == 130 and "left to" not in stderr and after and after.free


def test_a_terminal_that_closes(rig: Rig) -> None:
    """What is owed is taken back all the same, though nobody can be told any more."""
    ours, theirs = os.openpty()
    words = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state]
    environment = {"HANG_AT": "FileUpload._write", "HANG": "one"}
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    before = ("setsid", "--ctty", "env", "--default-signal=HUP")
    child = started(Case("terminal", words, 0, environment, ("-c", HUNG), before=before, **ends), rig.home)
    os.close(theirs)
    said = b""
    while b"HANGING" not in said:
        said += os.read(ours, 4096)
    began = time.monotonic()
    os.close(ours)
    child.wait(60)
    after = lease(rig)
    assert child.returncode == 130 and time.monotonic() - began < MOST_S + LEASE_S + SLACK_S
    assert after and after.free
    rig.sync()


def test_a_hang_up_that_was_ignored_at_the_start_is_ignored(rig: Rig) -> None:
    """As `nohup` has it; any other signal is heard."""
    come = rig.home / "come"
    for number, code in ((signal.SIGHUP, 0), (signal.SIGTERM, 130)):
        words = ["points", "--repo", rig.repo]
        case = Case("nohup", words, 0, {"COME": str(come)}, ("-c", WAITING), before=("env", "--ignore-signal=HUP"))
        child = started(case, rig.home)
        until(child, HANGING)
        child.send_signal(number)
        time.sleep(0.5)  # one that was heard has come to the work by now
        if number == signal.SIGHUP:
            come.touch()
        assert left(child)[0] == code
        come.unlink(missing_ok=True)


def test_a_signal_while_nobody_reads_what_it_says(rig: Rig) -> None:
    with full_pipe() as stdout:
        words = ["points", "--repo", rig.repo, "--json"]
        child = started(Case("full", words, stdout=stdout), rig.home)
        blocked = Path(f"/proc/{child.pid}/wchan")
        deadline = time.monotonic() + 30
        while "pipe" not in blocked.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert child.poll() is None
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        code, stderr = left(child)
    assert code == 130 and time.monotonic() - began < MOST_S + SLACK_S
    assert stderr.startswith("warmspare: interrupted")


@pytest.mark.parametrize(
    ("number", "json_too"), [(signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, False)]
)
def test_a_signal_before_the_loop(tmp_path: Path, number: signal.Signals, json_too: bool) -> None:
    """While modules are read; one of them hangs."""
    hang = "import sys, time\nprint('READING', file=sys.stderr, flush=True)\ntime.sleep(1e6)\n"
    (tmp_path / "argparse.py").write_text(hang)
    words = ["points", "--repo", "nowhere", *(["--json"] if json_too else [])]
    environment = {"PYTHONPATH": str(tmp_path)}
    child = started(Case("early", words, 0, environment, stdout=subprocess.PIPE), tmp_path)
    until(child, "READING")
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.decode() == "warmspare: interrupted; run the same command again, it goes on from here\n"
    assert [heard(line)["exit_code"] for line in out.splitlines()] == ([130] if json_too else [])


@pytest.mark.parametrize("by", ["the thread that hears", "the main thread"])
def test_the_last_words_come_whatever_keeps_who_says_them(tmp_path: Path, by: str) -> None:
    """On a machine that gives them no time; or where the work comes to its own end in that moment."""
    says = "assert PROCESS.speaks()" if by == "the main thread" else "PROCESS.speak(lambda left: time.sleep(1e6))"
    code = f"import time\nfrom warmspare.ending import PROCESS\nPROCESS.listen()\n{says}\ntime.sleep(1e6)\n"
    child = started(Case("words", [], program=["-c", code]), tmp_path)
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.communicate(timeout=60)[1].startswith(b"warmspare: interrupted") and child.returncode == 130


async def test_a_program_that_was_killed_is_none_of_ours_any_more() -> None:
    """Also where its end was not waited for: its number may be another's by the time that this process ends."""
    child = await children.start_beside("sleep", "60")
    assert child.pid in children._alive
    waiting = asyncio.ensure_future(children.end(child))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert child.pid not in children._alive
    await child.wait()


# What is owed first hangs, or fails as it may; then what is last.
OWED = """
import asyncio, sys, time
from warmspare.debts import owe
from warmspare.ending import PROCESS
PROCESS.listen()
from warmspare.cli.run import execute
from warmspare.cli.telling.output import LinesOutput
from warmspare.threads import in_thread
async def hangs(): await asyncio.Event().wait()
async def raises(): raise OSError("it fails")
async def stays(): return "it stays"
async def last(): print("LAST", flush=True)
async def work(run):
    owe("the first", 1.0, {"hangs": hangs, "raises": raises, "stays": stays}[sys.argv[1]])
    owe("the last", 60.0, last, last=True)
    print("READY", file=sys.stderr, flush=True)
    await in_thread(time.sleep, 1e6)
sys.exit(execute(work, LinesOutput(), as_json=False, debug=False))
"""


@pytest.mark.parametrize("how", ["hangs", "raises", "stays"])
def test_what_can_not_be_taken_back_is_named_and_keeps_nothing_else_from_it(tmp_path: Path, how: str) -> None:
    child = started(Case("owed", [how], 0, {}, ("-c", OWED), stdout=subprocess.PIPE), tmp_path)
    until(child, "READY")
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=50)
    assert child.returncode == 130 and out == b"LAST\n"
    again = "run the same command again, it goes on from here"
    assert err.decode().splitlines()[-1] == f"warmspare: interrupted; left to the next run: the first; {again}"


SAYING = """
import os, signal, time
from warmspare.ending import PROCESS
PROCESS.listen()
def say(left):
    time.sleep(0.2)
    os.write(2, b"WORDS\\n")
PROCESS.speak(say)
os.kill(os.getpid(), signal.SIGTERM)
while PROCESS.speaks():  # until they are being said
    PROCESS._words.release()
    time.sleep(0.001)
PROCESS.over(130)
PROCESS.close(130)
"""


def test_a_command_that_is_over_lets_its_last_words_be_said(tmp_path: Path) -> None:
    """They are said by a thread, and the main one comes to its own end meanwhile."""
    done = subprocess.run([sys.executable, "-c", SAYING], cwd=tmp_path, capture_output=True, timeout=50)
    assert done.returncode == 130 and done.stderr == b"WORDS\n"


AFTER = """
import sys, time
import warmspare.cli.main as program
from warmspare.__main__ import main
def hang(code):
    print("CLOSING", file=sys.stderr, flush=True)
    time.sleep(1e6)
program.PROCESS.close = hang
main()
"""


IDLE = """
import atexit, sys, threading, time
from warmspare.__main__ import main
threading.Thread(target=time.sleep, args=(1e6,)).start()
atexit.register(time.sleep, 1e6)
main()
"""


def test_the_end_waits_for_nothing_of_Pythons_own(rig: Rig) -> None:
    """Not for a thread that is in a call, nor for what libraries have registered."""
    child = started(
        Case("idle", ["points", "--repo", rig.repo], program=("-c", IDLE), stdout=subprocess.PIPE), rig.home
    )
    out, err = child.communicate(timeout=50)
    assert child.returncode == 0 and b"VM vm" in out, (out, err)


def test_a_signal_after_the_loop_changes_nothing(rig: Rig) -> None:
    """The work is done, and what comes after it waits for something."""
    child = started(Case("late", ["points", "--repo", rig.repo], program=("-c", AFTER)), rig.home)
    until(child, "CLOSING")
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code, stderr = left(child)
    assert code == 0 and not stderr and time.monotonic() - began < MOST_S + SLACK_S


SHIM = r"""
#include <unistd.h>
int getaddrinfo(const char *name, const char *service, const void *hints, void **found) {
    write(2, "RESOLVING\n", 10);
    for (;;) pause();
}
"""


def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    """The resolver of the C library waits for a server for minutes, and can't be cancelled."""
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    environment = {
        "LD_PRELOAD": str(library),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }
    words = ["points", "--repo", "s3://bucket/prefix", "--endpoint-url", "http://s3.invalid"]
    child = started(Case("resolving", words, 0, environment), tmp_path)
    until(child, "RESOLVING")
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code, stderr = left(child)
    assert code == 130 and time.monotonic() - began < MOST_S + SLACK_S
    assert stderr.splitlines()[-1].startswith("warmspare: interrupted")


def test_a_program_is_ended_with_what_it_started(rig: Rig) -> None:
    """A guest's reader that started another, and neither ends by itself."""
    folder = rig.home / "bin"
    folder.mkdir()
    reader = folder / "sfdisk"
    reader.write_text(f"#!/bin/sh\nsh -c 'trap \"\" TERM INT; sleep 3600; true' {reader} &\nwait\n")
    reader.chmod(0o755)
    rig.apply()
    words = ["recover", "check", "--vm", rig.vm, "--replica", rig.replica]
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    child = started(Case("reader", words, 0, environment), rig.home)
    deadline = time.monotonic() + 60
    while sum(str(reader) in words for words in running(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    code, _ = left(child)
    assert code == 130
    while running(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(folder) and not list(temporary(rig.home).iterdir())


SLOW_START = """
import os, subprocess, sys, time
from warmspare import children
from warmspare.ending import PROCESS
PROCESS.listen()
def slow(*args, fork=subprocess._fork_exec):
    number = fork(*args)
    os.write(2, b"HANGING\\n")
    time.sleep(0.1)  # its number is known to nobody yet
    return number
subprocess._fork_exec = slow
children.start([sys.executable, "-c", "import time; time.sleep(3600)", sys.argv[1]])
time.sleep(1e6)
"""


def test_a_program_that_is_just_being_started_is_ended_too(tmp_path: Path) -> None:
    child = started(Case("starting", [tmp_path], program=["-c", SLOW_START]), tmp_path)
    until(child, HANGING)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 130
    until_s = time.monotonic() + SLACK_S
    while running(tmp_path) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not running(tmp_path)


def test_programs_are_started_in_one_place() -> None:
    """Elsewhere they would inherit that signals are blocked, and outlive us. fusermount3 does, to unmount; a copy of
    this process ends with its group."""
    source = Path(warmspare.__file__).parent
    starts = re.compile(r"create_subprocess|\bPopen\(|subprocess\.(run|call|check_)|os\.(fork|spawn|system)")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if starts.search(path.read_text())}
    assert found <= {"children.py", "recover/disks/confined.py", "recover/disks/served.py"}


def test_a_command_that_is_done_ends_as_ever(rig: Rig) -> None:
    """Nothing of this is met by a run that nobody interrupts."""
    child = started(Case("plain", ["points", "--repo", rig.repo], stdout=subprocess.PIPE), rig.home)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0 and out and not err
