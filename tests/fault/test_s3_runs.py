"""Whole runs over a bad link: sync and apply end right, or with exit code 4 and the next run goes on."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rig import Outcome, Rig, command, same, scribble
from rigs.links.proxy import Flip, Proxy
from rigs.paths import as_here
from servers import S3Place
from warmspare.patience import Patience
from warmspare.store.s3 import connection

MIB = 1 << 20
TRIES = 6
QUICK = Patience(deadline_s=3.5, first_s=2.5, stall_s=0.6, connect_s=0.6, pause_s=0.02, most_s=0.2)
_COMMAND = """
import sys
from warmspare.cli.main import run
from warmspare.store.s3 import connection
from warmspare.patience import Patience

given = {given}
connection.Patience = lambda: given
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def proxy(seaweed_place: S3Place) -> Iterator[Proxy]:
    """Between the program and SeaweedFS."""
    with Proxy(urlsplit(seaweed_place.server.endpoint_url).port or 0) as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path, seaweed_place: S3Place, proxy: Proxy) -> Rig:
    """Its repository lies behind the proxy."""
    direct = ["--endpoint-url", seaweed_place.server.endpoint_url]
    return Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", proxy.url], direct=direct)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is, for as long as the test lasts."""
    monkeypatch.setattr(connection, "Patience", lambda: QUICK)


def noise_disk(path: Path, size: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, size, 8 * MIB):
            file.write(rng.randbytes(min(8 * MIB, size - at)))


def until_done(run: Callable[[], Outcome]) -> None:
    """Exit codes up to the first 0: nothing but 0 and 4 may come."""
    for _ in range(TRIES):
        outcome = run()
        if outcome.code == 0:
            return
        assert outcome.code == 4, outcome
    raise AssertionError(f"not done in {TRIES} runs: {outcome}")


def sync(rig: Rig) -> Outcome:
    return command("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *rig.more, *rig.new())


def apply(rig: Rig) -> Outcome:
    return command("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, *rig.more)


def run_sync(rig: Rig, patience: Patience | None = None, **more: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with the patience that users have."""
    code = _COMMAND.format(given=patience or Patience())
    arguments = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *rig.more, *rig.new()]
    whole = as_here()
    more = {"stdout": subprocess.DEVNULL, **more}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments), "--json"], env=whole, **more)


def anonymous_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def wait_for(proxy: Proxy, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many bytes went up."""
    deadline = time.monotonic() + 30
    while proxy.counts["up_bytes"] < count:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def test_mixed_faults_end_in_identical_bytes(rig: Rig, proxy: Proxy, impatient: None) -> None:
    rng = random.Random(3)
    noise_disk(rig.disk, 40 * MIB)
    faults = proxy.faults
    faults.latency_s = 0.005
    faults.reset_share, faults.reset_within = 0.3, 10 * MIB
    faults.slow_share, faults.cut_share = 0.1, 0.1
    kinds = ("reset", "slowed", "cut", "flipped")
    for number in range(30):
        if number >= 3 and all(map(proxy.counts.__getitem__, kinds)):
            break  # which connection is hit is chance: until each kind was
        proxy.reset_all()
        faults.flips = [Flip("up", rng.randrange(2 * MIB, 12 * MIB)) for _ in range(3)]
        faults.flips += [Flip("down", rng.randrange(20_000, 6 * MIB)) for _ in range(3)]
        until_done(lambda: sync(rig))
        proxy.reset_all()
        until_done(lambda: apply(rig))
        assert same(rig.disk, rig.replica)
        scribble(rig.disk, rng, pieces=30, most=2 * MIB)
    assert all(map(proxy.counts.__getitem__, kinds)), proxy.counts


def test_memory_is_bounded_while_the_link_is_down(rig: Rig, proxy: Proxy) -> None:
    noise_disk(rig.disk, 320 * MIB)
    proxy.faults.up_bytes_s = 60.0 * MIB
    with run_sync(rig) as process:
        try:
            wait_for(proxy, 48 * MIB, process)
            proxy.blackout("drop")
            seen = []
            for _ in range(25):
                time.sleep(0.1)
                seen.append(anonymous_mib(process))
            proxy.faults.up_bytes_s = None
            proxy.restore()
            assert process.wait(60) == 0
        finally:
            process.kill()
    print(f"\n{max(seen):.0f} MiB at most while the link was down")
    assert max(seen) < 256 and seen[-1] < seen[9] + 8, seen
    rig.apply()
    assert same(rig.disk, rig.replica)
