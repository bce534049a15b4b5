"""`warmspare audit source` on given disks: lost changes are found, named and healed, and nothing else is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, VddkRig, command, flip, same, scribble, write_extents
from warmspare.model.units import BLOCK_BYTES

BLOCK = BLOCK_BYTES


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rng = random.Random(1)
    with rig.disk.open("wb") as file:
        file.truncate(40 * MIB + 5000)
        file.write(rng.randbytes(5 * MIB))
        file.seek(30 * MIB)
        file.write(rng.randbytes(5 * MIB))
        file.seek(40 * MIB + 100)
        file.write(rng.randbytes(4900))
    rig.sync()
    return rig


def audit(rig: Rig, *more: object, code: int = 0, disks: list[object] | None = None) -> Outcome:
    done = command(
        "audit", "source", *(disks or [rig.disk]), "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *more
    )
    assert done.code == code, done
    return done


def write(rig: Rig, offset: int, data: bytes) -> tuple[int, int]:
    with rig.disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return offset, len(data)


def nothing(rig: Rig) -> list[object]:
    """Extents that say that nothing changed."""
    path = rig.home / "nothing.txt"
    path.write_text("")
    return ["--extents", path]


def report(done: Outcome) -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(done.last("audit.done")["report"]).read_text())
    return found


def test_a_disk_that_is_as_it_was_has_no_findings(rig: Rig) -> None:
    before = rig.snapshot()
    done = audit(rig).last("audit.done")
    assert (done["result"], done["findings"], done["coverage_percent"]) == ("clean", 0, 100.0)
    assert done["point"].startswith("1-") and done["bytes_read"] < 12 * MIB  # holes cost nothing
    assert rig.snapshot() == before
    assert audit(rig, "--full", *nothing(rig)).last("audit.done")["result"] == "clean"


@pytest.mark.parametrize(
    ("offset", "length", "data"),
    [(7, 1, b"x"), (2 * MIB + 5, 3, b"abc"), (10 * MIB, 1, b"x"), (40 * MIB + 4999, 1, b"y"), (31 * MIB, BLOCK, b"\0")],
    ids=["first block", "data", "a hole", "the short last block", "zeros over data"],
)
def test_one_lost_change_is_found_and_healed(rig: Rig, offset: int, length: int, data: bytes) -> None:
    write(rig, offset, data * (length // len(data)))
    rig.sync(*nothing(rig))  # nobody notices
    done = audit(rig, *nothing(rig), code=5)
    [finding] = done.all("finding")
    block = offset // BLOCK * BLOCK
    size = min(BLOCK, 40 * MIB + 5000 - block)
    assert (finding["kind"], finding["offset"], finding["length"]) == ("change-lost", block, size)
    assert finding["point"].startswith("2-") and finding["expected"] != finding["actual"] and not finding["repaired"]
    assert "zeros" in (finding["expected"], finding["actual"]) or finding["actual"].startswith("xxh3-128 ")
    assert audit(rig, *nothing(rig), code=5).all("finding")[0]["offset"] == block  # nothing was repaired
    healed = audit(rig, "--repair", *nothing(rig), code=5)
    assert healed.last("finding")["repaired"] and healed.last("sync.done")["findings"] >= 1
    assert healed.last("sync.done")["bytes_read"] <= 2 * BLOCK
    [disk] = report(healed)["disks"]
    assert (disk["repaired"], disk["wrong"]) == (1, 0)
    assert report(healed)["figures"]["repaired_by"].startswith("3-")
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert audit(rig, *nothing(rig)).last("audit.done")["result"] == "clean"


def test_what_is_reported_as_changed_is_not_judged(rig: Rig) -> None:
    seen = write(rig, 3 * MIB, b"seen")
    write(rig, 4 * MIB, b"lost")
    extents = write_extents(rig.home / "extents.txt", [seen], 4 * KIB, 40 * MIB + 5000)
    done = audit(rig, "--extents", extents, code=5)
    assert [event["offset"] for event in done.all("finding")] == [4 * MIB]
    last = done.last("audit.done")
    assert 99 < last["coverage_percent"] < 100
    assert any("1 blocks" in note and "could not be judged" in note for note in report(done)["notes"])


def test_without_extents_a_difference_is_not_called_lost(rig: Rig) -> None:
    write(rig, 3 * MIB, b"who knows")
    done = audit(rig, code=5)
    assert "nothing said what was written since" in done.last("finding")["message"]
    assert any("counts as a difference" in note for note in report(done)["notes"])


def test_a_sample_is_drawn_and_grows_when_it_finds(rig: Rig) -> None:
    clean = audit(rig, "--sample", "20", *nothing(rig))
    assert 15 < clean.last("audit.done")["coverage_percent"] < 25
    assert "seed" in report(clean)["mode"]
    write(rig, 2 * MIB, b"lost")
    for start in range(0, 40 * MIB, MIB):  # any sample meets one of these
        write(rig, start + 8192, b"lost too")
    done = audit(rig, "--sample", "20", *nothing(rig), code=5)
    assert done.last("audit.done")["coverage_percent"] == 100.0
    assert [event["kind"] for event in done.all("finding")].count("source-compared") == 1
    assert len(done.all("finding")) == 41
    audit(rig, "--repair", *nothing(rig), code=5)
    assert audit(rig, *nothing(rig)).last("audit.done")["result"] == "clean"
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_disk_that_grew_is_judged_as_far_as_it_was(rig: Rig) -> None:
    with rig.disk.open("ab") as file:
        file.write(b"more" * 100_000)
    done = audit(rig, *nothing(rig))
    assert done.last("audit.done")["result"] == "clean" and done.last("audit.done")["coverage_percent"] < 100
    write(rig, 39 * MIB, b"lost")
    assert [e["offset"] for e in audit(rig, *nothing(rig), code=5).all("finding")] == [39 * MIB]


def test_a_disk_that_shrank_is_none(rig: Rig) -> None:
    with rig.disk.open("r+b") as file:
        file.truncate(30 * MIB)
    assert "shrank" in audit(rig, code=3).stderr


def test_disks_that_come_and_go_are_named(rig: Rig) -> None:
    other = rig.home / "other.raw"
    other.write_bytes(b"other" * 1000)
    done = audit(rig, disks=[other], code=5)
    assert done.last("audit.done")["coverage_percent"] == 0.0
    [finding] = done.all("finding")
    assert (finding["kind"], finding["disk"]) == ("source-unjudged", "disk.raw") and "not given" in finding["message"]
    assert "disk other.raw is not in restore point" in report(done)["notes"][0]


def test_refusals(rig: Rig) -> None:
    assert "exclude each other" in audit(rig, "--full", "--sample", "5", code=2).stderr
    assert "--sample" in audit(rig, "--sample", "0", code=2).stderr
    done = command("audit", "source", rig.disk, "--vm", "nobody", "--repo", rig.repo)
    assert done.code == 2 and "no restore point" in done.stderr
    done = command("audit", "source", rig.disk, "--vm", rig.vm)
    assert done.code == 2 and "--repo" in done.stderr
    done = command("audit", "source", "--vm", rig.vm, "--repo", rig.repo)
    assert done.code == 2 and "none was given" in done.stderr


def test_a_table_that_the_chain_does_not_give_judges_nothing(rig: Rig) -> None:
    """The hashes come from the chain and are held against the root: nothing wrong is ever compared with."""
    [manifest] = rig.objects("manifests")
    flip(manifest, 200)
    done = command("audit", "source", rig.disk, "--vm", rig.vm, "--repo", rig.repo)
    assert done.code == 5 and done.events[-1]["event"] == "error" and not done.all("finding")


def test_what_a_library_read_wrongly_is_found_where_it_reads_rightly(tmp_path: Path) -> None:
    """A VDDK that gives other bytes than the disk has: nothing tells a sync, and an audit of the source does."""
    rig = VddkRig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(2 * MIB))
    rig.standin.script("at ReadAsync 1 wrong")
    rig.sync()
    assert rig.standin.hits()["ReadAsync"] == 1
    rig.apply()
    assert not same(rig.disk, rig.replica)
    words = ["audit", "source", rig.argument(rig.disk), "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state]
    found = command(*words, *rig.more, *nothing(rig), "--repair")
    assert found.code == 5 and "change-lost" in {event["kind"] for event in found.all("finding")}
    rig.apply()
    assert same(rig.disk, rig.replica)


@pytest.mark.parametrize("seed", range(10))
def test_random_lost_changes_are_all_found_and_no_other(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rig = Rig(tmp_path / "world")
    rig.home.mkdir()
    size = 12 * MIB + rng.randrange(BLOCK)
    with rig.disk.open("wb") as file:
        file.truncate(size)
    scribble(rig.disk, rng, pieces=20, zeros=0.0)
    rig.sync()
    before = rig.disk.read_bytes()
    written = scribble(rig.disk, rng, pieces=12)
    after = rig.disk.read_bytes()
    known = [one for one in written if rng.random() < 0.5]
    extents = write_extents(rig.home / "extents.txt", known, 4 * KIB, size)
    excluded = {at // BLOCK for offset, length in known for at in range(offset // 4096 * 4096, offset + length, 4096)}
    lost = {
        block
        for block in range(-(-size // BLOCK))
        if block not in excluded
        and before[block * BLOCK : (block + 1) * BLOCK] != after[block * BLOCK : (block + 1) * BLOCK]
    }
    done = audit(rig, "--extents", extents, code=5 if lost else 0)
    assert {event["offset"] // BLOCK for event in done.all("finding")} == lost
    audit(rig, "--repair", "--extents", extents, code=5 if lost else 0)
    if not lost:
        rig.sync("--extents", extents)
    rig.apply()
    assert same(rig.disk, rig.replica)
