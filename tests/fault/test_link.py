"""A sync at a link between namespaces, measured at its wire: limits hold there, whoever shares them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rigs.links import netns
from rigs.links.linkrig import Far, far_server, last_event
from rigs.links.watch import Watch

MIB = 1 << 20

# From one rate to another as the timetable has it, at the near end. The table lies on this minute and the next.
_TIMETABLE = """
import asyncio, os, sys, time
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.wiring.rate_limit import kept
from warmspare.config.timetable import EVERY_DAY, Period, Timetable
from warmspare.store.opening import open_store

url, before, after, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
now = time.localtime()
minute = (now.tm_hour * 60 + now.tm_min + 1) % 1440
first = Period(EVERY_DAY, (minute - 2) % 1440, minute, before)
table = Timetable((first, Period(EVERY_DAY, minute, minute + 2, after)))

async def main():
    store = open_store("s3://tests/t", endpoint_url=url)
    end = time.monotonic() + 60 - time.localtime().tm_sec + seconds
    with kept(store, None, HostPlaces(), table) as target:
        while time.monotonic() < end:
            async with target.upload(f"k{time.time_ns()}") as upload:
                await upload.write(os.urandom(1 << 20))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    """A server behind a link that is not shaped."""
    if reason := netns.why_not():
        pytest.skip(reason)
    with far_server(tmp_path) as made:
        yield made


def noise(path: Path, size: int, seed: int) -> Path:
    """A disk that does not compress."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(rng.randbytes(MIB))
    return path


@dataclass(frozen=True, slots=True)
class Held:
    """How a limit held: means and the most and least of any second, as shares of it; from its second second to the last
    two, and `start` of the whole run."""

    mean: float
    most: float
    least: float
    start: float


def limited(far: Far, mbit: float, senders: int, seconds: float) -> Held:
    """Syncs with a limit, side by side, that take about so long; all are right when this returns."""
    rate = mbit * 1e6 / 8
    size = int(rate * (seconds + 3) / senders) // MIB * MIB
    disks = []
    for number in range(senders):
        disks.append(noise(far.home / f"disk{number}.raw", size, number))
    with Watch(far.link.sender) as watch:
        began = time.monotonic()
        syncs = [far.sync(d, "--limit", f"{mbit:g}mbit", vm=f"vm{n}") for n, d in enumerate(disks)]
        sent = [last_event(one, seconds * 3 + 60)["bytes_sent"] for one in syncs]
        ended = time.monotonic()
    first = watch.first(int(rate))
    last = min(watch.first(watch.total - int(1.5 * rate)), first + seconds)
    steady = [count / rate for count in watch.seconds(first, last)]
    held = Held(
        watch.rate(first, last) / rate,
        max(steady),
        min(steady),
        max(watch.seconds(began - 1, ended)) / rate,
    )
    print(
        f"\n{senders} at {mbit:g} Mbit/s: {held.mean:.4f} of the limit over {last - first:.0f} s, any second "
        f"{held.least:.3f} to {held.most:.3f}, at the start {held.start:.3f}; {watch.total / sum(sent):.3f} bytes at "
        "the wire a byte sent"
    )
    return held


def test_a_limit_is_what_the_wire_carries(far: Far) -> None:
    """Never more than the limit, whatever the headers and whoever shares it; how much less depends on this machine."""
    held = limited(far, 10, 3, 4)
    assert held.mean <= 1.03 and held.most <= 1.2 and held.start <= 1.2, held


@pytest.mark.slow
@pytest.mark.parametrize("senders", [1, 3])
@pytest.mark.parametrize("mbit", [5, 20, 100])
def test_a_limit_over_a_minute(far: Far, mbit: float, senders: int) -> None:
    held = limited(far, mbit, senders, 60)
    assert abs(held.mean - 1) <= 0.03 and held.most <= 1.2 and held.start <= 1.2 and held.least >= 0.8, held


@pytest.mark.slow
def test_a_limit_changes_at_its_minute(far: Far) -> None:
    """Within a second of the minute, up or down; measured at the wire."""
    for before, after in ((1_250_000.0, 625_000.0), (625_000.0, 2_500_000.0)):
        if time.localtime().tm_sec > 45:
            time.sleep(61 - time.localtime().tm_sec)
        with Watch(far.link.sender) as watch, far.python(_TIMETABLE, far.endpoint_url, before, after, 12) as sender:
            minute = time.monotonic() + 60 - time.time() % 60
            assert sender.wait(120) == 0
        shares = [
            watch.rate(minute - 8, minute - 0.5) / before,
            watch.rate(minute + 0.5, minute + 8) / after,
            watch.rate(minute + 0.2, minute + 1.2) / after,
        ]
        print(f"\n{before:.0f} to {after:.0f} B/s at the minute: " + " ".join(f"{share:.3f}" for share in shares))
        assert all(abs(share - 1) < 0.03 for share in shares[:2]) and 0.8 < shares[2] < 1.2
