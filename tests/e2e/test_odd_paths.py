"""Paths as file systems allow them: parts that are no UTF-8 are used as they are, and shown as escapes; links on the
way to a place of the state directory lead nowhere."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from urllib.parse import quote

import pytest

from rig import KIB, MIB, Outcome, Rig, command, random_disk, same

ODD = os.fsdecode(b"a\xff\xfe")
SHOWN = "a\\udcff\\udcfe"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path)
    random_disk(rig.disk, MIB, random.Random(1))
    return rig


def change(rig: Rig) -> None:
    with rig.disk.open("r+b") as file:
        file.write(random.Random(2).randbytes(8 * KIB))


def test_everything_lies_in_such_a_directory(rig: Rig) -> None:
    home = rig.home / ODD
    home.mkdir()
    odd = Rig(home, repo=str(home / "repo"))
    rig.disk.rename(odd.disk)
    for _ in range(2):  # what the first has noted, the second reads
        odd.sync("--spool", home / "spool")
        odd.apply(to=home / f"{ODD}.raw")
        change(odd)
    assert not odd.sync("--spool", home / "spool").all("state.unreadable")
    odd.apply(to=home / f"{ODD}.raw")
    assert same(odd.disk, home / f"{ODD}.raw")


@pytest.mark.parametrize("what", ["replica", "repository"])
def test_an_audit_says_in_which_directory(rig: Rig, what: str) -> None:
    (rig.home / ODD).mkdir()
    odd = Rig(rig.home, repo=str(rig.home / ODD / "repo"))
    odd.sync()
    path = rig.home / ODD / f"{ODD}.raw"
    odd.apply(to=path)
    subject = ["replica", "--vm", odd.vm, "--replica", path] if what == "replica" else ["repository"]
    reports, page = rig.home / ODD / "reports", rig.home / f"{ODD}.html"
    for number in (1, 2):
        done = command("audit", *subject, "--repo", odd.repo, "--reports", reports, "--html", page)
        assert done.code == 0, done
        kept = Path(done.last("audit.done")["report"])
        report = json.loads(kept.read_bytes())
        shown = f"/{quote(os.fsencode(ODD))}/" if what == "repository" else f"/{SHOWN}/"  # as a URI has it
        assert report["number"] == number and shown in report["subject"]
        assert all(f"/{SHOWN}/{SHOWN}.raw" in disk["path"] for disk in report["disks"])
        assert shown in page.read_text()
    verified = command("audit", "verify-report", "--reports", reports)
    assert verified.code == 0 and verified.last("reports.verified")["count"] == 2


def test_a_name_that_is_no_text(rig: Rig) -> None:
    for words in ([rig.disk, "--vm", ODD], [f"{ODD}={rig.disk}", "--vm", "vm"]):
        refused = command("sync", *words, "--repo", rig.repo, "--state", rig.state)
        assert refused.code == 2 and SHOWN in refused.stderr, refused


def leads_away(place: Path) -> None:
    """Somebody has put a link there."""
    away = place.parent / "away"
    away.mkdir(parents=True)
    place.symlink_to(away)


@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_a_place_of_the_state_that_leads_elsewhere(rig: Rig, kind: str) -> None:
    """Of each command: refused before anything is written there, in one sentence."""
    rig.sync()
    rig.apply()
    state = rig.home / "xdg" / "warmspare"
    repo, vm = ("--repo", rig.repo), ("--vm", rig.vm)
    replica = ("audit", "replica", *vm, *repo, "--replica", rig.replica)
    uses = {
        "tmp": [replica, ("audit", "source", rig.disk, *vm, *repo, "--state", rig.state), ("prune", *repo)],
        "audits": [replica, ("audit", "repository", *repo), ("audit", "verify-report")],
        "audits/unfinished": [replica],
        "audit": [("audit", "repository", *repo)],
        "points": [("recover", "check", *vm, *repo)],
        "drills": [("drill", *vm, "--replica", rig.replica)],
        "promises": [("copy", "--from", rig.repo, "--to", rig.home / "other")],
    }
    assert command("init", rig.home / "other").code == 0
    for name, commands in uses.items():
        place = state / name
        kept = place.rename(state / "kept") if place.exists() else None
        if kind == "link":
            leads_away(place)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(place)
        for words in commands:
            demand_refused(command(*words), place, "a symbolic link" if kind == "link" else "a FIFO")
        if kind == "link":
            (place.parent / "away").rmdir()  # nothing was written there
        place.unlink()
        if kept:
            kept.rename(place)


def demand_refused(outcome: Outcome, place: Path, kind: str) -> None:
    assert outcome.code == 4, outcome
    assert f"{kind} stands where a directory belongs ({place})" in outcome.stderr, outcome
