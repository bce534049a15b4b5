"""kill -9 of a sender again and again while it sends over a slow link: how much is sent twice, until it is done.

The short rounds are a tenth of the long ones in time and in what a pack may hold; the link is the same.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rig import KIB, MIB, Rig, command, made, same
from rigs.links.proxy import Proxy
from rigs.paths import as_here
from servers import S3Place
from siterig import site_rig

LINK = 20e6 / 8
_COMMAND = """
import sys
from warmspare.cli.main import run
from warmspare.sync.stages import pack_writer

scale = float(sys.argv[1])
pack_writer.PACK_S *= scale
pack_writer.FIRST_PACK_BYTES = int(pack_writer.FIRST_PACK_BYTES * scale)
pack_writer.LEAST_PACK_BYTES = int(pack_writer.LEAST_PACK_BYTES * scale)
sys.exit(run(sys.argv[2:]))
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """mib: of data. kill_s: the least and most time between kills. share: of the real times."""

    mib: int
    kill_s: tuple[float, float]
    share: float


SHORT = Scale(14, (2.0, 6.0), 0.1)
LONG = Scale(400, (20.0, 60.0), 1.0)


@pytest.fixture
def proxy(seaweed_place: S3Place) -> Iterator[Proxy]:
    """Between the program and SeaweedFS; a link of 20 Mbit/s and 80 ms when `slow` was called."""
    with Proxy(urlsplit(seaweed_place.server.endpoint_url).port or 0) as made:
        yield made


def slow(proxy: Proxy) -> None:
    proxy.faults.up_bytes_s = proxy.faults.down_bytes_s = LINK
    proxy.faults.latency_s = 0.04


def start(scale: Scale, *arguments: object) -> subprocess.Popen[bytes]:
    whole = as_here()
    program = [sys.executable, "-c", _COMMAND, scale.share, *arguments]
    return subprocess.Popen(list(map(str, program)), env=whole, stdout=subprocess.DEVNULL)


def undisturbed(scale: Scale, proxy: Proxy, *arguments: object) -> int:
    """Bytes that go up when nothing happens, which do not depend on the link: nothing here compresses."""
    before = proxy.counts["up_bytes"]
    assert start(scale, *arguments).wait(120) == 0
    return proxy.counts["up_bytes"] - before


def killed_until_done(
    scale: Scale, proxy: Proxy, rng: random.Random, between: Callable[[], None], words: Callable[[], list[object]]
) -> tuple[int, int]:
    """(bytes that went up, kills). A kill comes so long after data began to move again. words: of each run; one that
    was killed when it had published is not to be begun anew."""
    before, kills = proxy.counts["up_bytes"], 0
    deadline = time.monotonic() + 60 + 20 * scale.mib * MIB / LINK
    while time.monotonic() < deadline:
        at = proxy.counts["up_bytes"]
        with start(scale, *words()) as child:
            while child.poll() is None and proxy.counts["up_bytes"] < at + 64 * KIB:
                time.sleep(0.02)
            try:
                assert child.wait(rng.uniform(*scale.kill_s)) == 0
                return proxy.counts["up_bytes"] - before, kills
            except subprocess.TimeoutExpired:
                child.kill()
        proxy.reset_all()  # what the dead one had in the link's buffers goes nowhere
        kills += 1
        between()
    raise AssertionError(f"not done after {kills} kills")


def told(what: str, sent: int, plain: int, kills: int) -> float:
    print(f"\n{what}: {kills} kills, {sent / 1e6:.1f} MB sent where {plain / 1e6:.1f} were needed: {sent / plain:.3f}")
    return sent / plain


def same_disk(home: Path, place: S3Place, proxy: Proxy, scale: Scale, seed: int) -> tuple[float, int]:
    """Of a disk that does not change: what was sent, as a multiple of an undisturbed run, and kills."""
    rng = random.Random(seed)
    rig = Rig(home, repo=place.uri, more=["--endpoint-url", proxy.url])
    with rig.disk.open("wb") as file:
        for _ in range(scale.mib):
            file.write(rng.randbytes(MIB))
    whole = ["sync", rig.disk, "--vm", rig.vm, *rig.more]
    made(f"{place.uri}/plain", *rig.more)
    plain = undisturbed(scale, proxy, *whole, "--new", "--repo", f"{place.uri}/plain", "--state", home / "plain")
    slow(proxy)
    sent, kills = killed_until_done(
        scale, proxy, rng, lambda: None, lambda: [*whole, *rig.new(), "--repo", place.uri, "--state", rig.state]
    )
    proxy.faults.up_bytes_s = proxy.faults.down_bytes_s = None
    rig.apply()
    assert same(rig.disk, rig.replica)
    return told("the same disk", sent, plain, kills), kills


def lost_snapshots(home: Path, place: S3Place, proxy: Proxy, scale: Scale, seed: int) -> tuple[float, int]:
    """The same of a VM: every run has another snapshot, for which the guest has written some more."""
    rng = random.Random(seed)
    with site_rig(home, seed=seed) as rig:
        vm = rig.add("dc02", [2 * scale.mib * MIB])
        for at in range(scale.mib // 2):
            vm.write(vm.disks[0], at * 4 * MIB, rng.randbytes(2 * MIB))

        def begin(prefix: str, state: str) -> list[object]:
            place_of, far = f'uri = "{home}/repo"', f'uri = "{prefix}"\nendpoint_url = "{proxy.url}"'
            made(prefix, "--endpoint-url", proxy.url)
            text, path = rig.config.read_text().replace(place_of, far), home / f"{state}.toml"
            path.write_text(text.replace(f'state = "{home}/state"', f'state = "{home}/{state}"'))
            return ["sync", "--config", path, "--vm", "dc02"]

        plain = undisturbed(scale, proxy, *begin(f"{place.uri}/plain", "plain"))
        slow(proxy)

        def writes() -> None:
            while rig.site.state()[vm.moref]["busy"]:
                time.sleep(0.01)
            vm.scribble(rng, pieces=10, most=scale.mib * MIB // 400)

        before = len(vm.taken)
        real = begin(place.uri, "real")
        sent, kills = killed_until_done(scale, proxy, rng, writes, lambda: real)
        proxy.faults.up_bytes_s = proxy.faults.down_bytes_s = None
        assert len(vm.taken) - before == kills + 1 and not rig.clean(vm)
        target = home / "replica"
        uuid = vm.spec["instance_uuid"]
        done = command("apply", "--vm", uuid, "--repo", place.uri, "--endpoint-url", proxy.url, "--to", target)
        assert done.code == 0 and same(vm.frozen_file(vm.taken[-1], vm.disks[0]), target)
    return told("a snapshot lost each time", sent, plain, kills), kills


def test_little_is_sent_twice(tmp_path: Path, seaweed_place: S3Place, proxy: Proxy) -> None:
    share, kills = same_disk(tmp_path, seaweed_place, proxy, SHORT, 1)
    assert kills >= 1 and share <= 1.25


def test_little_is_sent_twice_without_the_snapshot(tmp_path: Path, seaweed_place: S3Place, proxy: Proxy) -> None:
    share, kills = lost_snapshots(tmp_path, seaweed_place, proxy, SHORT, 2)
    assert kills >= 1 and share <= 1.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_little_is_sent_twice_in_real_time(tmp_path: Path, seaweed_place: S3Place, proxy: Proxy, seed: int) -> None:
    share, kills = same_disk(tmp_path, seaweed_place, proxy, LONG, seed)
    assert kills >= 2 and share <= 1.15


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 6])
def test_little_is_sent_twice_in_real_time_without_the_snapshot(
    tmp_path: Path, seaweed_place: S3Place, proxy: Proxy, seed: int
) -> None:
    share, kills = lost_snapshots(tmp_path, seaweed_place, proxy, LONG, seed)
    assert kills >= 2 and share <= 1.3
