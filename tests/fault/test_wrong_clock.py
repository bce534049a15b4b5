"""Whole runs of hosts whose clocks are really wrong, by hours to decades, or jump all the time: points are exact and in
order, leases hold, and what lasts lasts as long as it should."""

from __future__ import annotations

import contextlib
import http.server
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, python, same, scribble
from rigs.host import media, wrongclock
from rigs.host.hearing import all_heard
from servers import S3Place

DAY_S = 86400


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wrongclock.build(tmp_path_factory.mktemp("clock"))


def run(library: Path, ahead_s: int, *words: object, jumps: bool = False) -> Outcome:
    """The command at a host with that clock."""
    done = subprocess.run(
        [python(), "-m", "warmspare", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env=wrongclock.environment(library, ahead_s, jumps=jumps),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, all_heard(done.stdout), done.stderr)


def sync(rig: Rig, host: Path) -> list[object]:
    return ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", host, *rig.more, *rig.new()]


def test_the_library_tells_the_wrong_time(library: Path) -> None:
    said = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"
    env = wrongclock.environment(library, -400 * DAY_S)
    done = subprocess.run([python(), "-c", said], capture_output=True, text=True, check=True, env=env)
    wall, dated, boot = map(float, done.stdout.split())
    assert abs(time.time() - 400 * DAY_S - wall) < 60 and abs(wall - dated) < 5 and 0 <= time.monotonic() - boot < 60


def test_hosts_with_wrong_clocks_make_one_chain(tmp_path: Path, library: Path) -> None:
    """Each host's clock is off another way: whoever comes next goes on from what the last one published, a lease that
    was given back is free, and the receiver takes them in order."""
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(2 * MIB))
    created = []
    for number, ahead_s in enumerate((10 * 365 * DAY_S, -9000 * DAY_S, 3600), 1):
        done = run(library, ahead_s, *sync(rig, tmp_path / f"host-{number % 2}"))
        assert done.code == 0 and done.last("sync.done")["point"].startswith(f"{number}-"), done
        created.append(rig.point(number).created)
        scribble(rig.disk, random.Random(number), pieces=5)
    assert created != sorted(created)  # the clocks were wrong
    rig.sync(state=tmp_path / "host-0")
    assert run(library, -400 * DAY_S, "apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica).code == 0
    assert same(rig.disk, rig.replica)
    audited = run(library, 400 * DAY_S, "audit", "repository", "--repo", rig.repo, "--deep")
    assert audited.code == 0 and not audited.all("finding")


@pytest.mark.parametrize("ahead_s", [30 * DAY_S, pytest.param(-30 * DAY_S, marks=pytest.mark.slow)])
def test_s3_takes_what_a_wrong_clock_signs(tmp_path: Path, seaweed_place: S3Place, library: Path, ahead_s: int) -> None:
    """Requests are signed with the server's time."""
    rig = Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", seaweed_place.server.endpoint_url])
    rig.disk.write_bytes(random.Random(1).randbytes(MIB))
    done = run(library, ahead_s, *sync(rig, tmp_path / "host"))
    assert done.code == 0, done
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_clock_that_jumps_changes_no_duration(tmp_path: Path, library: Path) -> None:
    """Limits, retries, leases and ages go by time since boot: between years, ten times a second."""
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(1500 * KIB))
    began = time.monotonic()
    words = [*sync(rig, tmp_path / "host"), "--limit", "8mbit", "--spool", tmp_path / "spool"]
    done = run(library, 1000 * DAY_S, *words, jumps=True)
    assert done.code == 0, done
    assert 1.0 < done.last("sync.done")["seconds"] <= time.monotonic() - began  # 1.5 MB at 1 MB/s
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_read_only_audit_beside_a_sender(tmp_path: Path, library: Path) -> None:
    """Its lease can only be held against this host's clock there. Where that is right nothing is told of what the
    sender has not published; where it is ahead it is told as left over, and nothing is removed."""
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(MIB))
    rig.sync()
    here = tmp_path / "here"
    here.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(media.bound(Path(rig.repo), here))
        stack.enter_context(media.read_only(here))
        sender = _halted(rig, stack)
        told = {}
        for ahead_s in (0, 3600):
            done = run(library, ahead_s, "audit", "repository", "--repo", here)
            assert done.code == 0 and sender.poll() is None, done
            told[ahead_s] = [event["kind"] for event in done.all("finding")]
        # It may have been halted while it writes another object, too.
        assert not told[0] and {"object-orphan"} <= set(told[3600]) <= {"object-orphan", "upload-unfinished"}


def _halted(rig: Rig, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    """A sender that lives and gets no further: it has sent a pack, and not published the point of it. Between these
    there are some milliseconds, which are met in a few tries."""
    words = [python(), "-m", "warmspare", *map(str, sync(rig, rig.state)), "--json"]
    for number in range(20):
        scribble(rig.disk, random.Random(number), pieces=60, most=200 * KIB, zeros=0.0)
        packs, points = len(rig.objects("packs")), len(rig.objects("points"))
        sender = stack.enter_context(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        stack.callback(sender.kill)
        while sender.poll() is None and len(rig.objects("packs")) == packs:
            time.sleep(0.001)
        sender.send_signal(signal.SIGSTOP)
        stopped = Path(f"/proc/{sender.pid}/stat")
        while sender.poll() is None and stopped.read_text().rpartition(") ")[2][0] != "T":
            time.sleep(0.001)
        if sender.poll() is None and len(rig.objects("points")) == points:
            return sender
        sender.send_signal(signal.SIGCONT)
        assert sender.wait(60) == 0
    raise AssertionError("every sender was faster")


@contextlib.contextmanager
def dateless() -> Iterator[str]:
    """A server of HTTP that has no object and tells no time; its URL."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_where_a_server_sends_no_date_this_hosts_clock_counts(library: Path) -> None:
    """For leases, like the store's own: see unit/test_lease.py."""
    said = (
        "import asyncio, sys; from warmspare.store.opening import open_store\n"
        "print(asyncio.run(open_store('s3://bucket/x', endpoint_url=sys.argv[1]).now()))"
    )
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}
    with dateless() as url:
        env = {**wrongclock.environment(library, 7200), **keys}
        done = subprocess.run([python(), "-c", said, url], capture_output=True, text=True, check=True, env=env)
    assert abs(time.time() + 7200 - float(done.stdout)) < 60
