"""Each way in which S3 fails, with whole runs: a right restore point or exit code 4, and a rerun goes on; never a wrong
point. What is about single requests is in test_s3_wire.py, all faults at once in test_s3_runs.py."""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import botocore.auth
import pytest

from fault.test_s3_runs import QUICK, apply, noise_disk, run_sync, sync, until_done, wait_for
from rig import MIB, Event, Rig, command, same, scribble
from rigs.host.hearing import all_heard
from rigs.links.proxy import Flip, Proxy, Refusal, Way
from servers import S3Place, Seaweed, make_bucket
from warmspare.patience import Patience
from warmspare.store.s3 import connection
from warmspare.store.s3.session import aws_session


@pytest.fixture
def proxy(seaweed_place: S3Place) -> Iterator[Proxy]:
    """Between the program and SeaweedFS."""
    with Proxy(urlsplit(seaweed_place.server.endpoint_url).port or 0) as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path, seaweed_place: S3Place, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Its repository lies behind the proxy, and holds one restore point. The program is impatient."""
    monkeypatch.setattr(connection, "Patience", lambda: QUICK)
    direct = ["--endpoint-url", seaweed_place.server.endpoint_url]
    rig = Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", proxy.url], direct=direct)
    noise_disk(rig.disk, 8 * MIB)
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.write(random.Random(2).randbytes(24 * MIB))
    return rig


def exact(rig: Rig, points: int) -> None:
    """There are so many points, and the newest is the disk: on the replica, and from nothing."""
    listed = command("points", "--repo", rig.repo, *rig.more)
    assert listed.last("points.done")["count"] == points, listed
    until_done(lambda: apply(rig))
    assert same(rig.disk, rig.replica)
    fresh = rig.home / f"fresh-{points}"
    rig.apply(to=fresh)
    assert same(rig.disk, fresh)


def trouble(rig: Rig, proxy: Proxy, begin: Callable[[], None], end: Callable[[], None]) -> tuple[str, list[Event]]:
    """A sync in the middle of which something begins that it can't outlast; its one line on stderr, and its events.
    Nothing of it is visible, and the rerun sends only what was not in the store yet."""
    proxy.faults.up_bytes_s = 12.0 * MIB
    before = proxy.counts["up_bytes"]
    with run_sync(rig, QUICK, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(proxy, before + 12 * MIB, process)
        begin()
        out, err = process.communicate(timeout=40)
    assert process.returncode == 4 and len(err.splitlines()) == 1, err
    events = all_heard(out)
    assert events[-1]["kind"] == "store"
    end()
    proxy.faults.up_bytes_s = None
    assert command("points", "--repo", rig.repo, *rig.more).last("points.done")["count"] == 1
    done = rig.sync()
    assert done.last("sync.recovered")["packs_kept"] >= 1
    assert done.last("sync.done")["bytes_sent"] < 24 * MIB
    exact(rig, 2)
    return err.decode(), events


def test_a_full_quota(rig: Rig, proxy: Proxy) -> None:
    full = Refusal(b"^PUT ", "403 Forbidden", "QuotaExceeded")
    said, _ = trouble(rig, proxy, lambda: proxy.faults.refusals.append(full), proxy.faults.refusals.clear)
    assert "a quota or cap of the account is reached" in said
    assert proxy.counts["refused"] < 30, "a full bucket is not asked again and again"


def test_a_quota_that_is_full_for_the_point_only(rig: Rig, proxy: Proxy) -> None:
    """All but the record was sent: nothing is visible, and the rerun publishes it before it makes its own point."""
    proxy.faults.refusals.append(Refusal(rb"^PUT \S*/points/", "403 Forbidden", "QuotaExceeded"))
    failed = sync(rig)
    assert failed.code == 4 and "quota or cap" in failed.stderr
    assert command("points", "--repo", rig.repo, *rig.more).last("points.done")["count"] == 1
    proxy.faults.refusals.clear()
    before = proxy.counts["up_bytes"]
    done = rig.sync()
    assert done.last("sync.recovered")["published"] is True and proxy.counts["up_bytes"] - before < MIB
    exact(rig, 3)


def test_a_link_that_stays_away(rig: Rig, proxy: Proxy) -> None:
    """It ends soon after its patience, for nobody is there to be told that it ends."""
    began = [0.0]

    def away() -> None:
        proxy.blackout("drop")
        began[0] = time.monotonic()

    def back() -> None:
        began[0] = time.monotonic() - began[0]
        proxy.restore()

    said, events = trouble(rig, proxy, away, back)
    assert began[0] < QUICK.deadline_s + QUICK.stall_s + 9, "it went on for long after it had given up"
    assert "network" in said and events[-1]["retryable"] and "s3://" in events[-1]["where"]
    told = [event for event in events if event["event"] == "store.retry"]
    assert 1 <= len(told) <= 3 and "s3://" in told[0]["message"]
    with rig.disk.open("r+b") as file:
        file.write(random.Random(3).randbytes(8 * MIB))
    rig.sync()
    timer = threading.Timer(0.3, lambda: proxy.blackout("drop"))
    proxy.faults.down_bytes_s = 8.0 * MIB
    timer.start()
    assert apply(rig).code == 4
    timer.join()
    proxy.faults.down_bytes_s = None
    proxy.restore()
    exact(rig, 3)


def test_an_endpoint_that_never_answers(rig: Rig, proxy: Proxy) -> None:
    proxy.reset_all()
    proxy.faults.mute = True
    failed = sync(rig)
    assert failed.code == 4 and "did not answer in time" in failed.stderr
    assert apply(rig).code == 4
    proxy.faults.mute = False
    until_done(lambda: sync(rig))
    exact(rig, 2)


@pytest.mark.parametrize("fault", ["resets", "slow down", "cuts", "flips up", "flips down"])
def test_a_link_that_is_bad_all_the_time(rig: Rig, proxy: Proxy, fault: str) -> None:
    faults, rng = proxy.faults, random.Random(7)
    kind = {"slow down": "slowed", "resets": "reset", "cuts": "cut"}.get(fault, "flipped")
    if fault == "resets":
        faults.reset_share, faults.reset_within = 0.3, 6 * MIB
    elif fault == "slow down":
        faults.slow_share = 0.4
    elif fault == "cuts":
        faults.cut_share = 0.3
    for number in range(8):  # which connection meets what depends on when it is made
        if kind == "flipped":
            way: Way = "up" if fault == "flips up" else "down"
            least = 300 if way == "up" else 20_000
            faults.flips = [Flip(way, rng.randrange(least, 6 * MIB)) for _ in range(6)]
        proxy.reset_all()
        until_done(lambda: sync(rig))
        proxy.reset_all()
        until_done(lambda: apply(rig))
        assert same(rig.disk, rig.replica)
        fresh = rig.home / f"fresh-{number}"
        proxy.reset_all()
        anew = ["apply", "--vm", rig.vm, "--repo", rig.repo, "--to", fresh, *rig.more]
        until_done(lambda anew=anew: command(*anew))
        assert same(rig.disk, fresh)
        if proxy.counts[kind]:
            return
        scribble(rig.disk, rng, pieces=30, most=2 * MIB)
    raise AssertionError(f"the link was never bad: {proxy.counts}")


def test_credentials_that_expire_half_way(
    rig: Rig, proxy: Proxy, seaweed_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are renewed where they come from: the run goes on as if nothing had been."""
    server = seaweed_place.server
    secrets = {server.access_key: server.secret_key, server.second_access_key: server.second_secret_key}
    key, script = tmp_path / "key", tmp_path / "process.py"
    key.write_text(server.access_key)
    script.write_text(
        f"import json\nkey = open({str(key)!r}).read()\nprint(json.dumps({{'Version': 1, 'AccessKeyId': key, "
        f"'SecretAccessKey': {secrets!r}[key]}}))\n"
    )
    (tmp_path / "config").write_text(
        f"[profile dr]\nregion = {server.region}\ncredential_process = {sys.executable} {script}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "dr")
    proxy.faults.up_bytes_s = 12.0 * MIB
    before = proxy.counts["up_bytes"]
    with run_sync(rig, QUICK) as process:
        wait_for(proxy, before + 8 * MIB, process)
        key.write_text(server.second_access_key)
        expired = f"Credential={server.access_key}/".encode()
        proxy.faults.refusals.append(Refusal(expired, "400 Bad Request", "ExpiredToken"))
        assert process.wait(60) == 0
    assert 1 <= proxy.counts["refused"] <= 20
    exact(rig, 2)


def test_a_clock_that_is_20_minutes_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    off_s = 1200.0
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(aws_session, "clock", lambda: time.time() + off_s)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a: real(*a) + datetime.timedelta(seconds=off_s))
    rig.sync()
    exact(rig, 2)


@pytest.mark.slow
def test_the_server_is_killed_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of the server, three times; it comes back each time, takes writes a quarter of a minute later, and all
    that it had acknowledged is there."""
    seaweed = Seaweed(tmp_path)
    try:
        seaweed.start()
        make_bucket(seaweed.server, "tests")
        for name, value in seaweed.server.environment.items():
            monkeypatch.setenv(name, value)
        with Proxy(urlsplit(seaweed.server.endpoint_url).port or 0) as proxy:
            rig = Rig(tmp_path, repo="s3://tests/p", more=["--endpoint-url", proxy.url])
            noise_disk(rig.disk, 8 * MIB)
            rng = random.Random(8)
            for number in range(3):
                proxy.faults.up_bytes_s = None
                rig.sync()
                with rig.disk.open("r+b") as file:
                    file.write(rng.randbytes(32 * MIB))
                scribble(rig.disk, rng)
                proxy.faults.up_bytes_s = 8.0 * MIB
                before = proxy.counts["up_bytes"]
                with run_sync(rig, Patience(stall_s=5, connect_s=1)) as process:
                    wait_for(proxy, before + rng.randrange(4, 28) * MIB, process)
                    seaweed.kill()
                    time.sleep(rng.uniform(0, 2))
                    seaweed.start(wait=False)
                    assert process.wait(120) == 0
                proxy.faults.up_bytes_s = None
                exact(rig, 2 * number + 2)
    finally:
        seaweed.kill()
