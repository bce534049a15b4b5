"""An audit's page in a real browser: it renders, shows what was planted where it was planted, and asks for nothing."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from e2e.browser import browser
from rig import MIB, Rig, random_disk, scribble
from rigs.damage.replica import Corruptor
from warmspare.audit.reports import archive, page
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.findings import FindingKind, finding
from warmspare.audit.reports.report import SOUND, MapBuilder
from warmspare.model.units import BLOCK_BYTES

COLOURS = {"wrong": (0xC6, 0x28, 0x28), "sound": (0x2F, 0x8F, 0x5B), "zero": (0xC9, 0xD0, 0xD9)}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))
    rig = Rig(tmp_path)
    rng = random.Random(4)
    random_disk(rig.disk, 96 * MIB + 5000, rng, pieces=150)
    rig.sync()
    shutil.copy(rig.disk, tmp_path / "older")
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    return rig


REGIONS = """[...document.querySelectorAll('svg[role=img] rect[data-result]')].map(r => {
  const box = r.getBoundingClientRect();
  return {result: r.dataset.result, first: +r.dataset.first, count: +r.dataset.count, tip: r.textContent,
          x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height,
          link: r.closest('a') ? r.closest('a').getAttribute('href') : null}})"""


async def test_the_map_shows_what_was_planted(rig: Rig, tmp_path: Path) -> None:
    corruptor = Corruptor(rig.replica, rig.disk, tmp_path / "older", random.Random(2))
    for kind in Corruptor.KINDS * 3:
        kind(corruptor)
    html = tmp_path / "report.html"
    done = audit_outside(rig, html)
    document = html.read_text()
    for outside in ("http:", "https:", "src=", "@import", "url(", "<script", "<link", "<iframe"):
        assert outside not in document.replace('xmlns="http://www.w3.org/2000/svg"', ""), outside
    async with browser(tmp_path) as tab:
        await tab.open(html.as_uri())
        assert tab.requests == [html.as_uri()] and tab.problems == []
        regions = await tab.evaluate(REGIONS)
        # Every region once, and each block that was planted in a region that says so.
        cell = done.disks[0].map.cell_blocks
        shown = {region["first"] + i: region for region in regions for i in range(region["count"])}
        assert sorted(shown) == list(range(-(-done.disks[0].blocks // cell)))
        planted = {block // cell for block in corruptor.wrong}
        assert {number for number, region in shown.items() if region["result"] == "wrong"} == planted
        for region in regions:
            assert region["width"] > 3 and region["height"] > 3
            if region["result"] == "wrong":
                assert region["link"] and "wrong" in region["tip"]
                row = await tab.evaluate(f"document.querySelector('{region['link']}').dataset.kind")
                assert row in set(corruptor.wrong.values()) | {"block-wrong", "block-stale", "block-misplaced"}
        # And as a person sees it: where no cross is drawn on a square.
        for result in ("wrong", "sound", "zero"):
            region = next(region for region in regions if region["result"] == result)
            seen = await tab.colour(region["x"] + region["width"] * 0.5, region["y"] + region["height"] * 0.3)
            assert max(abs(a - b) for a, b in zip(seen, COLOURS[result], strict=True)) < 24, (result, seen)
        rows = await tab.evaluate("document.querySelectorAll('#findings tbody tr').length")
        assert rows == len(done.findings) == len(corruptor.wrong)
        verdict = await tab.evaluate("document.querySelector('#verdict').textContent")
        assert f"{len(corruptor.wrong)} findings" in verdict
        assert await tab.evaluate("document.documentElement.lang") == "en"
        assert await tab.evaluate("document.querySelector('svg[role=img]').getAttribute('aria-label')")
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        picture = await tab.picture(tmp_path / "page.png")
        assert len(picture) > 20_000
        printed = await tab.call("Page.printToPDF", printBackground=True)
        assert len(printed["data"]) > 10_000
        assert tab.requests == [html.as_uri()]
    repaired = audit_outside(rig, html, "--repair")
    async with browser(tmp_path / "again") as tab:
        await tab.open(html.as_uri())
        regions = await tab.evaluate(REGIONS)
        assert {region["first"] for region in regions if region["result"] == "repaired"} == planted
        assert not [region for region in regions if region["result"] == "wrong"]
        assert "repaired" in await tab.evaluate("document.querySelector('#verdict').textContent")
    assert repaired.disks[0].repaired == len(corruptor.wrong)


def audit_outside(rig: Rig, html: Path, *more: str) -> reports.AuditReport:
    """An audit in a process of its own, for an event loop runs here; its kept report."""
    before = len(list((rig.home / "reports").glob("*.json")))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "warmspare",
            "audit",
            "replica",
            "--vm",
            rig.vm,
            "--repo",
            rig.repo,
            "--replica",
            str(rig.replica),
            "--reports",
            str(rig.home / "reports"),
            "--html",
            str(html),
            *more,
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 5), done.stderr
    found = sorted((rig.home / "reports").glob("*.json"))
    assert len(found) == before + 1
    return reports.decode(found[-1].read_bytes(), "test")


class Tags(HTMLParser):
    """Whether tags are balanced, and all text that is shown."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_a_report_becomes_markup(tmp_path: Path) -> None:
    """Names come from the site: a VM may be called anything."""
    evil = "<script>alert(1)</script><b x=\"'&amp;"
    builder = MapBuilder(10 * BLOCK_BYTES)
    builder.add_run(SOUND, 0, 10)
    disk = reports.disk_result(
        builder, id=evil, name=evil, path=evil, capacity_bytes=10 * BLOCK_BYTES, root=evil, bytes_read=1, seconds=1.0
    )
    found = finding(FindingKind.BLOCK_WRONG, point=evil, disk=evil, offset=0, length=1, expected=evil, actual=evil)
    made = reports.AuditReport(
        1,
        1,
        evil,
        "repository",
        evil,
        evil,
        evil,
        evil,
        evil,
        evil,
        evil,
        evil,
        reports.PointRef(evil, 1, evil, evil),
        evil,
        evil,
        1.0,
        100.0,
        1,
        1,
        "findings",
        [disk],
        [found, msgspec.structs.replace(found, disk="", key=evil)],
        7,
        evil,
        {evil: evil},
        [evil],
    )
    tags = Tags()
    document = page.render(made, "0" * 64)
    tags.feed(document)
    assert tags.open == [] and "<script" not in document and "<b x" not in document
    assert tags.text.count(evil) > 15
    clean = msgspec.structs.replace(made, findings=[], result="clean", disks=[], findings_left_out=0)
    assert "Clean" in page.render(clean, "0" * 64)
    assert archive.of(tmp_path).keep(made).report.number == 1
