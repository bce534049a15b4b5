"""The command line's own duties: exit codes, one sentence an error, secrets, what a terminal shows, memory."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import pty
import random
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rig import MIB, Rig, begun, command, made, same
from warmspare import errors
from warmspare.cli.disk_options import split_disk
from warmspare.cli.main import run
from warmspare.cli.run import execute
from warmspare.cli.telling.output import JsonOutput, LinesOutput, Plain, Stdout, begin, final_code, write_line
from warmspare.engine.error_groups import telling
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.request import RunContext
from warmspare.errors import ConfigError, IntegrityError, LeaseError, SourceError, StoreError
from warmspare.observe.event import name_of
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.apply_events import ApplyDone, ApplyStart


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (ExceptionGroup("", [StoreError("s"), IntegrityError("i")]), IntegrityError),
        (ExceptionGroup("", [ExceptionGroup("", [StoreError("s")]), SourceError("x")]), SourceError),
        (BaseExceptionGroup("", [asyncio.CancelledError(), LeaseError("l")]), LeaseError),
        (ExceptionGroup("", [RuntimeError("r"), StoreError("s")]), StoreError),
        (ExceptionGroup("", [RuntimeError("r"), OSError("o")]), RuntimeError),
        (StoreError("s"), StoreError),
    ],
)
def test_the_most_telling_error_of_a_group(group: Exception, expected: type[Exception]) -> None:
    assert type(telling(group)) is expected


def test_exit_codes_of_the_errors() -> None:
    codes = {
        errors.ConfigError: 2,
        errors.SourceError: 3,
        errors.StoreError: 4,
        errors.NotFoundError: 4,
        errors.IntegrityError: 5,
        errors.FormatError: 5,
        errors.LeaseError: 6,
    }
    for kind, code in codes.items():

        async def fail(run: RunContext, kind: type[errors.WarmspareError] = kind) -> int:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.sleep(60))
                raise kind("it broke", where="there", hint="mend it")

        assert execute(fail, JsonOutput(), as_json=True, debug=False) == code


def test_a_bug_is_called_one_and_shows_a_traceback_only_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    async def bug(run: RunContext) -> int:
        raise ZeroDivisionError("oops")

    assert execute(bug, LinesOutput(), as_json=False, debug=False) == 1
    quiet = capsys.readouterr()
    assert "this is a bug" in quiet.err and "oops" in quiet.err and "Traceback" not in quiet.err
    assert execute(bug, JsonOutput(), as_json=True, debug=True) == 1
    loud = capsys.readouterr()
    assert "Traceback" in loud.err and '"kind": "bug"' in loud.out


@pytest.mark.program
def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("sync", "apply", "points", "demo", "config"))
    assert run(["--version"]) == 0
    assert re.fullmatch(r"warmspare \d+\.\d+\.\d+\n", capsys.readouterr().out)
    for name in ("sync", "apply", "points", "demo", "config"):
        assert run([name, "--help"]) == 0
    assert "--extents" in run_help("sync") and "--follow" in run_help("apply")


def run_help(name: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "warmspare", name, "--help"], capture_output=True, text=True, check=True
    ).stdout


def test_names_of_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_disk("/a/b.raw") == ("b.raw", "/a/b.raw")
    assert split_disk("sys=/a/b.raw") == ("sys", "/a/b.raw")
    assert split_disk("/a/x=y.raw") == ("x=y.raw", "/a/x=y.raw")
    odd = tmp_path / "k=v"
    odd.write_text("")
    monkeypatch.chdir(tmp_path)
    assert split_disk("k=v") == ("k=v", "k=v")
    assert split_disk("k=w") == ("k", "w")


@pytest.mark.program
def test_secrets_of_the_environment_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "disk").write_bytes(b"x" * 100)
    outcome = subprocess.run(
        [
            sys.executable,
            "-m",
            "warmspare",
            "sync",
            tmp_path / "disk",
            "--vm",
            "v",
            "--repo",
            "s3://bucket/x",
            "--endpoint-url",
            "http://127.0.0.1:9",
            "--state",
            tmp_path / "state",
            "--debug",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert outcome.returncode == 4, outcome.stderr
    everything = outcome.stdout + outcome.stderr
    assert "hunter2" not in everything
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


def on_a_terminal(*arguments: object, columns: int = 100) -> tuple[int, str]:
    """Run the command with a terminal as its stdout and stderr; exit code and everything it showed."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    child = subprocess.Popen(
        [sys.executable, "-m", "warmspare", *map(str, arguments)], stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.1)
        try:
            piece = os.read(master, 65536) if ready else b""
        except OSError:
            break
        shown += piece
        if not piece and child.poll() is not None:
            break
    os.close(master)
    return child.wait(10), shown.decode()


@pytest.mark.program
def test_a_terminal_shows_rate_bytes_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(100 * MIB))
    slowly = ("--limit", "40MB")  # so that there is time for a rate to be shown
    code, shown = on_a_terminal(
        "sync",
        rig.disk,
        "--vm",
        "v",
        "--repo",
        rig.repo,
        "--state",
        rig.state,
        *begun(rig.repo, "v"),
        *slowly,
        columns=160,
    )
    assert code == 0, shown
    for word in ("/s", "read", "changed", "sent", "left", "%", "restore point 1-"):
        assert word in shown, word
    assert "{" not in shown
    code, shown = on_a_terminal("apply", "--vm", "v", "--repo", rig.repo, "--to", rig.replica)
    assert code == 0 and "blocks verified" in shown
    code, shown = on_a_terminal("apply", "--vm", "w", "--repo", rig.repo, "--to", rig.replica)
    assert code == 2 and shown.count("warmspare: ") == 1


@pytest.mark.program
def test_plain_lines_where_no_terminal_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(MIB))
    arguments = ["sync", str(rig.disk), "--vm", "v", "--repo", rig.repo, "--state", str(rig.state)]
    arguments += begun(rig.repo, "v")
    done = subprocess.run([sys.executable, "-m", "warmspare", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("restore point 1-")


def test_the_sentence_names_what_where_and_what_to_do() -> None:
    error = ConfigError("it is wrong", where="/there", hint="put it right")
    assert error.sentence == "it is wrong (/there); put it right"
    assert "\n" not in error.sentence


def peak_mib(*arguments: object) -> float:
    """Highest RssAnon + RssShmem of the command, sampled."""
    child = subprocess.Popen(
        [sys.executable, "-m", "warmspare", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = 0
    while child.poll() is None:
        try:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        except OSError:
            break
        peak = max(peak, sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))))
        time.sleep(0.01)
    assert child.wait() == 0, child.stderr.read() if child.stderr else ""
    return peak / 1024


@pytest.mark.program
def test_memory_does_not_follow_the_disk(tmp_path: Path) -> None:
    """Dense and sparse, on both sides; bench/memory.py does it at full size."""
    rng = random.Random(2)
    rig = Rig(tmp_path)
    rig.disk.write_bytes(rng.randbytes(200 * MIB))
    places = sorted(rng.sample(range(1 << 17), 6000))
    wide = Rig(tmp_path / "wide")
    wide.home.mkdir()
    with wide.disk.open("wb") as file:
        file.truncate(8 << 40)
        for place in places:
            file.seek(place << 26)
            file.write(rng.randbytes(4096) + bytes(8192) + rng.randbytes(4096))
    for one in (rig, wide):
        sync = ["sync", one.disk, "--vm", "v", "--repo", one.repo, "--state", one.state, *begun(one.repo, "v")]
        assert peak_mib(*sync) < 256
        apply = ["apply", "--vm", "v", "--repo", one.repo, "--to", one.replica]
        assert peak_mib(*apply) < 256
        made(one.home / "copy")
        assert peak_mib("copy", "--from", one.repo, "--to", one.home / "copy") < 256
    assert same(rig.disk, rig.replica)
    assert wide.replica.stat().st_blocks <= wide.disk.stat().st_blocks * 1.01
    assert command("points", "--repo", wide.repo).code == 0


async def test_the_last_event_is_last() -> None:
    """However long it takes to close what was used; a run that goes on tells its progress again."""
    seen: list[str] = []
    events = Events(lambda event: seen.append(name_of(event)))
    async with RunContext(events, Meter(), HostPlaces(), 0.005).ticking(()):
        await asyncio.sleep(0.05)
        assert seen and set(seen) == {"progress"}
        events.emit(
            ApplyDone(
                vm="v",
                point="1-0",
                before=None,
                bytes_read=0,
                bytes_written=0,
                blocks_verified=0,
                blocks_rebuilt=0,
                seconds=0.0,
                disks=[],
            )
        )
        await asyncio.sleep(0.05)
        assert seen[-1] == "apply.done"
        events.emit(ApplyStart(vm="v", repository="r", target="t", point="2-0", before=None))
        await asyncio.sleep(0.05)
        assert seen[-1] == "progress"


@pytest.mark.program
@pytest.mark.parametrize(
    ("words", "not_needed"),
    [
        (["--help"], {"msgspec", "numpy", "botocore", "rich", "warmspare.observe"}),
        (["points", "--repo", "REPO"], {"numpy", "botocore", "warmspare.observe.kinds.drill_events"}),
    ],
    ids=["help", "points"],
)
def test_starting_is_quick(words: list[str], not_needed: set[str], tmp_path: Path) -> None:
    """What nobody needs is not imported: neither for help, nor to look at what is there."""
    repo = tmp_path / "repo"
    made(repo)
    look = "import sys; from warmspare.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    line = [str(repo) if word == "REPO" else word for word in words]
    done = subprocess.run([sys.executable, "-c", look, *line], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "warmspare.cli.main" in loaded and not not_needed & loaded


@pytest.mark.program
def test_a_sync_to_a_directory_does_not_pay_for_clients_that_it_has_no_use_for() -> None:
    """Reading botocore alone takes as long as a sync of nothing."""
    look = "import sys, warmspare.cli.commands.sync, warmspare.sync.sender; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()
    assert not {"botocore", "aiohttp", "aiobotocore", "pyVmomi"} & set(loaded)


def test_a_stream_that_is_found_by_the_collector_loses_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Of an earlier command in this process, whose own stdout is closed by then."""
    begin()
    for kind in (Stdout, Plain):
        below = io.TextIOWrapper(io.BytesIO())
        stream = kind(below)
        below.close()
        del stream
        gc.collect()
    assert final_code(0) == 0 and capfd.readouterr().err == ""
    write_line("still heard")
    assert capfd.readouterr().out == "still heard\n"
