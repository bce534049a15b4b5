"""The first sync of a real image over a thin, long link between two namespaces: all of the link is used, by little more
than what there is to send. Beside a peer: bench/link.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rig import KIB, same
from rigs.images import data
from rigs.links import netns
from rigs.links.linkrig import REPO, Far, far_server, last_event
from rigs.links.watch import Watch

TAIL_BYTES = 192 * KIB  # manifest, record and lease, which take round trips; before them it is packs


def first_sync(far: Far, image: Path, mbit: float, from_s: float, vm: str = "vm") -> float:
    """The share of the link from that second to the last of the packs. What is published is the image."""
    far.link.shape(up=f"{mbit:g}mbit", down=f"{mbit:g}mbit")
    rate = mbit * 1e6 / 8
    with Watch(far.link.sender) as watch:
        began = time.monotonic()
        with far.sync(image, vm=vm) as process:
            sent = last_event(process, 300)["bytes_sent"]
        ended = time.monotonic()
    last = watch.first(watch.total - TAIL_BYTES)
    share = watch.rate(began + from_s, last) / rate
    print(
        f"\n{sent / 1e6:.1f} MB at {mbit:g} Mbit/s and 80 ms: {share:.1%} of the link from second {from_s:g} to the "
        f"last of the packs, {watch.rate(began + from_s, ended) / rate:.1%} to the very end, {ended - began:.1f} s in "
        f"all, {watch.total / sent:.3f} bytes at the wire a byte sent"
    )
    assert last > began + from_s + 2
    assert watch.total < 1.08 * sent
    far.link.shape()
    where = ["--vm", vm, "--repo", REPO]
    with far.start("apply", *where, "--to", far.home / f"replica-{vm}") as process:
        assert process.wait(120) == 0
    assert same(image, far.home / f"replica-{vm}")
    return share


def test_a_thin_link_is_filled(tmp_path: Path, image: Path) -> None:
    """How much of it depends on this machine too, so the best of three counts: a sender that waits for answers would
    never use more than a third."""
    if reason := netns.why_not():
        pytest.skip(reason)
    with far_server(tmp_path, latency_s=0.04) as far:
        assert any(first_sync(far, image, 40, 3, f"vm{number}") > 0.5 for number in range(3))


@pytest.mark.slow
def test_a_thin_link_is_filled_for_long(tmp_path: Path) -> None:
    if reason := netns.why_not():
        pytest.skip(reason)
    image = tmp_path / "image.raw"
    data.build_image(image, content_mb=400, image_mb=900)
    with far_server(tmp_path, latency_s=0.04) as far:
        assert first_sync(far, image, 20, 10) >= 0.95
