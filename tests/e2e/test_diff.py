"""What differs between two restore points: held against the disks themselves, block by block and page by page."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from e2e.browser import browser
from rig import MIB, Outcome, Rig, command, flip
from warmspare.cli.main import run
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES

REGIONS = """[...document.querySelectorAll('svg[role=img] rect')].map(
  r => [+r.dataset.first, +r.dataset.count, r.dataset.result])"""
SIZE = 12 * MIB + 5000


@dataclass(frozen=True, slots=True)
class Truth:
    """What really differs between two images; beyond the end of one are zeros."""

    filled: int
    emptied: int
    changed: int
    pages: int
    page_bytes: int


def truth(before: bytes, after: bytes) -> Truth:
    size = max(len(before), len(after))
    whole = -(-size // BLOCK_BYTES) * BLOCK_BYTES
    one, other = (np.frombuffer(data.ljust(whole, b"\0"), np.uint8) for data in (before, after))
    pages = (one != other).reshape(-1, PAGE_BYTES).any(axis=1)
    blocks = pages.reshape(-1, BLOCK_BYTES // PAGE_BYTES).any(axis=1)
    was, now = (each.reshape(-1, BLOCK_BYTES).any(axis=1) for each in (one, other))
    last = (size - 1) // PAGE_BYTES
    short = bool(pages[last]) * (PAGE_BYTES * (last + 1) - size)
    return Truth(
        int((blocks & ~was).sum()),
        int((blocks & ~now).sum()),
        int((blocks & was & now).sum()),
        int(pages.sum()),
        int(pages.sum()) * PAGE_BYTES - short,
    )


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))
    return Rig(tmp_path)


def changed(rig: Rig, rng: random.Random) -> None:
    """Writes, some of them of what stood there, and some of zeros."""
    with rig.disk.open("r+b") as file:
        size = rig.disk.stat().st_size
        for _ in range(12):
            at = rng.randrange(size - 20_000)
            file.seek(at)
            old = file.read(rng.randrange(1, 20_000))
            file.seek(at)
            file.write(rng.choice((old, bytes(len(old)), rng.randbytes(len(old)))))
        at = rng.randrange(size // BLOCK_BYTES - 2) * BLOCK_BYTES
        file.seek(at)
        file.write(bytes(BLOCK_BYTES))


def images(rig: Rig, count: int, seed: int = 1) -> list[bytes]:
    """So many points; what the disk was at each, from index 1 on."""
    rng = random.Random(seed)
    rig.disk.write_bytes(b"".join(rng.choice((bytes, rng.randbytes))(BLOCK_BYTES) for _ in range(SIZE // BLOCK_BYTES)))
    with rig.disk.open("r+b") as file:
        file.truncate(SIZE)
        file.seek(SIZE - 700)
        file.write(rng.randbytes(700))
    kept = [b""]
    for number in range(count):
        if number:
            changed(rig, rng)
        rig.sync()
        kept.append(rig.disk.read_bytes())
    return kept


def diff(rig: Rig, first: object, second: object, *more: object, code: int = 0) -> Outcome:
    outcome = command("diff", first, second, "--vm", rig.vm, "--repo", rig.repo, *more)
    assert outcome.code == code, outcome
    return outcome


def table_of(*words: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run([*map(str, words)]) == 0
    return out.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_exact_and_pages_a_bound_or_exact(rig: Rig, seed: int) -> None:
    kept = images(rig, 4, seed)
    for first, second in ((1, 4), (4, 1), (2, 3), (1, 2)):
        real = truth(kept[first], kept[second])
        for more in ([], ["--exact"]):
            (disk,) = diff(rig, first, second, *more).all("diff.disk")
            assert (disk["blocks_filled"], disk["blocks_emptied"], disk["blocks_changed"]) == (
                real.filled,
                real.emptied,
                real.changed,
            )
            assert disk["presence"] == "both" and disk["pages_exact"] is bool(more)
            if more:
                assert (disk["pages"], disk["bytes_pages"]) == (real.pages, real.page_bytes)
            else:
                assert real.pages <= disk["pages"] <= disk["blocks"] * 16
                assert real.page_bytes <= disk["bytes_pages"] <= disk["bytes_blocks"]


def test_points_by_label_and_newest_and_one_with_itself(rig: Rig) -> None:
    kept = images(rig, 3)
    labels = [event["point"] for event in command("points", "--repo", rig.repo).all("point")]
    real = truth(kept[2], kept[3])
    by_label = diff(rig, labels[1], "latest").last("diff.done")
    assert (by_label["first"], by_label["second"]) == (labels[1], labels[2])
    assert by_label["blocks"] == real.filled + real.emptied + real.changed and not by_label["same"]
    itself = diff(rig, 2, labels[1]).last("diff.done")
    assert itself["same"] and itself["pages_exact"] and not itself["blocks"]
    assert "are one restore point" in table_of("diff", 2, 2, "--vm", rig.vm, "--repo", rig.repo)
    # What was written back is alike, though the chain in between names it.
    rig.disk.write_bytes(kept[2])
    rig.sync()
    back = diff(rig, 2, 4).last("diff.done")
    assert back["same"] and not back["pages"] and not back["pages_exact"]
    assert "byte for byte" in table_of("diff", 2, 4, "--vm", rig.vm, "--repo", rig.repo)


def test_disks_that_joined_left_and_grew(rig: Rig) -> None:
    rng = random.Random(2)
    names = {name: rig.home / f"{name}.raw" for name in ("stays", "leaves", "joins")}
    for path in names.values():
        path.write_bytes(bytes(BLOCK_BYTES) + rng.randbytes(3 * BLOCK_BYTES) + bytes(BLOCK_BYTES) + rng.randbytes(1000))
    rig.sync(disks=[names["stays"], names["leaves"]])
    before = {name: path.read_bytes() for name, path in names.items()}
    with names["stays"].open("r+b") as file:
        file.truncate(9 * BLOCK_BYTES + 512)
        file.seek(8 * BLOCK_BYTES + 100)
        file.write(b"grown")
    rig.sync(disks=[names["stays"], names["joins"]], code=7)  # one is not protected any more
    after = {name: path.read_bytes() for name, path in names.items()}
    for more in ([], ["--exact"]):
        told = {disk["name"]: disk for disk in diff(rig, 1, 2, *more).all("diff.disk")}
        assert [disk["presence"] for disk in told.values()] == ["both", "joined", "left"]
        for name, one, other in (
            ("joins.raw", b"", after["joins"]),
            ("leaves.raw", before["leaves"], b""),
        ):
            real = truth(one, other)
            disk = told[name]
            assert (disk["blocks_filled"], disk["blocks_emptied"]) == (real.filled, real.emptied)
            assert (disk["capacity_before"], disk["capacity_after"]) == (len(one) or None, len(other) or None)
            assert disk["pages"] == real.pages if more else disk["pages"] >= real.pages
        grown, real = told["stays.raw"], truth(before["stays"], after["stays"])
        assert (grown["capacity_before"], grown["capacity_after"]) == (len(before["stays"]), 9 * BLOCK_BYTES + 512)
        # The old last block was a short one, and counts as another for its length.
        assert (grown["blocks_filled"], grown["blocks_changed"]) == (real.filled, real.changed + 1)
        assert grown["pages"] == real.pages if more else grown["pages"] >= real.pages
    # The other way round.
    assert [disk["presence"] for disk in diff(rig, 2, 1).all("diff.disk")] == ["both", "joined", "left"]
    shown = table_of("diff", 1, 2, "--vm", rig.vm, "--repo", rig.repo)
    assert "joined" in shown and "left" in shown and "pages ≤" in shown and "--exact" in shown
    assert "pages ≤" not in table_of("diff", 1, 2, "--vm", rig.vm, "--repo", rig.repo, "--exact")


def test_a_disk_that_left_and_came_back(rig: Rig) -> None:
    """Nobody names what it held before: all of the blocks that differ may."""
    rng = random.Random(6)
    one, other = rig.home / "one.raw", rig.home / "other.raw"
    one.write_bytes(rng.randbytes(BLOCK_BYTES))
    other.write_bytes(rng.randbytes(4 * BLOCK_BYTES))
    was = other.read_bytes()
    rig.sync(disks=[one, other])
    rig.sync(disks=[one], code=7)
    with other.open("r+b") as file:
        file.seek(BLOCK_BYTES + 5000)
        file.write(b"other")
    rig.sync(disks=[one, other])
    real = truth(was, other.read_bytes())
    assert real.pages == real.changed == 1
    for more, pages in (([], 16), (["--exact"], 1)):
        (disk,) = [each for each in diff(rig, 1, 3, *more).all("diff.disk") if each["name"] == "other.raw"]
        assert (disk["blocks"], disk["pages"]) == (1, pages)


def test_what_can_not_be_compared_is_refused(rig: Rig) -> None:
    images(rig, 2)
    other = Rig(rig.home, vm="other", repo=rig.repo)
    other.sync("--state", rig.home / "state2")
    label = command("points", "--repo", rig.repo, "--vm", "other").last("point")["point"]
    for words, message in (
        ((1, 7), "has no restore point '7'"),
        ((1, label), f"restore point 1 of VM 'vm' is not {label}"),
        ((1, "yesterday"), "has no restore point 'yesterday'"),
    ):
        assert message in diff(rig, *words, code=2).stderr
    assert "arguments are required: B" in command("diff", 1, "--vm", rig.vm, "--repo", rig.repo).stderr
    mine = rig.home / "mine.html"
    mine.write_text("<!DOCTYPE html><p>mine")
    assert "did not write" in diff(rig, 1, 2, "--html", mine, code=2).stderr
    assert mine.read_text().endswith("mine")


def test_damage_is_said(rig: Rig) -> None:
    images(rig, 3)
    key = Path(rig.repo) / rig.point(2).disks[0].manifest.key
    held = key.read_bytes()
    flip(key, 200)
    assert "is damaged" in diff(rig, 1, 3, code=5).stderr
    key.write_bytes(held)
    assert diff(rig, 1, 3).last("diff.done")["blocks"]
    for pack in rig.objects("packs"):
        flip(pack, pack.stat().st_size // 2)
    assert diff(rig, 1, 3).last("diff.done")["blocks"], "no pack is read for hashes"
    assert diff(rig, 1, 3, "--exact", code=5).last("error")["kind"] in ("integrity", "format")


def test_the_map_shows_what_differs(rig: Rig, tmp_path: Path) -> None:
    kept = images(rig, 2, seed=5)
    html = tmp_path / "diff.html"
    done = diff(rig, 1, 2, "--html", html)
    assert done.last("diff.done")["html"] == str(html)
    document = html.read_text()
    assert "default-src 'none'" in document
    for outside in ("http:", "https:", "src=", "@import", "url(", "<script", "<link", "<iframe"):
        assert outside not in document.replace('xmlns="http://www.w3.org/2000/svg"', ""), outside
    before, after = kept[1], kept[2]
    expected: dict[int, str] = {}
    for block in range(-(-SIZE // BLOCK_BYTES)):
        one, other = (data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] for data in (before, after))
        kind = "same" if one == other else "filled" if not any(one) else "emptied" if not any(other) else "changed"
        expected[block] = kind
    assert set(expected.values()) == {"same", "filled", "emptied", "changed"}

    async def look() -> None:
        async with browser(tmp_path) as tab:
            await tab.open(html.as_uri())
            assert tab.requests == [html.as_uri()] and tab.problems == []
            regions = await tab.evaluate(REGIONS)
            assert {first + i: kind for first, count, kind in regions for i in range(count)} == expected
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert len(await tab.picture(tmp_path / "diff.png")) > 10_000

    asyncio.run(look())
    diff(rig, 1, 2, "--html", html)  # a page of ours is replaced
