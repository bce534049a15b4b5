"""The audit's small parts: sets of blocks, samples, maps, tables held against the Merkle root, chained reports."""

from __future__ import annotations

import hashlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from warmspare.audit.expected.blockset import CHUNK_BLOCKS, BlockSet
from warmspare.audit.expected.hashes import ExpectedTable
from warmspare.audit.expected.sample import Sample, parse_percent
from warmspare.audit.reports import archive
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.findings import ABOUT, FindingKind, Severity, finding, unclean
from warmspare.audit.reports.report import MAX_CELLS, SOUND, WRONG, ZERO, AuditReport, MapBuilder
from warmspare.audit.repository import seen as known
from warmspare.errors import ConfigError, FormatError, LeaseError
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.hashtable import root_of
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.model.block_records import PlacedRecords
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_BYTES
from warmspare.state import report_chain as chains
from warmspare.state.local_files import locked
from warmspare.state.page_file import PageFile
from warmspare.state.report_chain import KeptReport


@pytest.mark.parametrize("seed", range(10))
def test_a_set_of_blocks_is_a_set(seed: int) -> None:
    rng = random.Random(seed)
    ours, plain = BlockSet(), set()
    for _ in range(30):
        fresh = {rng.randrange(3 * CHUNK_BLOCKS) for _ in range(rng.randrange(50))}
        drawn = sorted(fresh | set(rng.sample(sorted(plain), len(plain) // 3)))
        if rng.random() < 0.6:
            ours.add(np.array(drawn, dtype=np.uint32))
            plain |= set(drawn)
        else:
            ours.discard(np.array(drawn, dtype=np.uint32))
            plain -= set(drawn)
        assert len(ours) == len(plain)
    assert [b for batch in ours.batches(7) for b in batch.tolist()] == sorted(plain)
    assert {b for start, count in ours.runs() for b in range(start, start + count)} == plain
    probe = np.arange(0, 3 * CHUNK_BLOCKS, 997)
    assert ours.holds(probe).tolist() == [int(b) in plain for b in probe]


@pytest.mark.parametrize("percent", [0.5, 1, 10, 33, 90])
def test_a_sample_is_spread_evenly_and_stays_the_same(percent: float) -> None:
    blocks = 64 * 2048 + 100
    sample = Sample(percent, 7, blocks)
    runs = list(sample.runs(0, blocks))
    chosen = {b for first, stop in runs for b in range(first, stop)}
    assert runs == sorted(runs) and max(chosen) < blocks
    assert sum(stop - first for first, stop in runs) == len(chosen)
    assert len(chosen) / blocks == pytest.approx(percent / 100, rel=0.35)
    for stratum in range(64 if percent >= 1 else 0):  # no region is passed over
        assert chosen & set(range(stratum * 2048, (stratum + 1) * 2048))
    again = Sample(percent, 7, blocks)
    assert {b for f, s in again.runs(1000, 50_000) for b in range(f, s)} == {b for b in chosen if 1000 <= b < 50_000}
    probe = np.arange(0, blocks, 13)
    assert again.holds(probe).tolist() == [int(b) in chosen for b in probe]
    assert list(Sample(percent, 8, blocks).runs(0, blocks)) != runs


def test_percents() -> None:
    assert [parse_percent(text) for text in (None, "100", "10", "2.5 %", "0.1%")] == [None, None, 10, 2.5, 0.1]
    for text in ("0", "-1", "101", "ten", "nan", "inf", ""):
        with pytest.raises(ConfigError, match="--sample"):
            parse_percent(text)


@pytest.mark.parametrize("capacity", [1, 100 * BLOCK_BYTES, 5000 * BLOCK_BYTES + 1, 8 << 40])
def test_maps_count_every_block_once(capacity: int) -> None:
    builder = MapBuilder(capacity)
    blocks = -(-capacity // BLOCK_BYTES)
    rng = random.Random(1)
    picks = np.array(sorted({rng.randrange(blocks) for _ in range(200)}))
    builder.add_run(ZERO, 0, blocks)
    builder.add(ZERO, picks, sign=-1)
    builder.add(WRONG, picks)
    assert (builder.total(ZERO), builder.total(WRONG)) == (blocks - picks.size, picks.size)
    built = builder.build()
    columns = built.columns()
    assert len(columns[0]) == -(-blocks // built.cell_blocks) <= MAX_CELLS
    assert [i for i, n in enumerate(columns[WRONG]) if n] == sorted(set((picks // built.cell_blocks).tolist()))
    assert sum(map(sum, columns)) == blocks
    assert MapBuilder.of(capacity, built).build() == built
    with pytest.raises(ValueError, match="regions"):
        msgspec.structs.replace(built, sound="1x5000").columns()


# tables


def table(tmp_path: Path, blocks: int) -> ExpectedTable:
    disk = Disk("d", "d", blocks * BLOCK_BYTES - 100, "0" * 64, ObjectRef("k", 1, "0" * 64, 0), 0)
    return ExpectedTable(PageFile(tmp_path / "table", "it", anew=True), disk)


def chunk(hashes: dict[int, bytes], zero: list[tuple[int, int]]) -> Chunk:
    none = np.zeros(len(hashes), np.uint16)
    digests = np.frombuffer(b"".join(hashes[b] for b in sorted(hashes)), np.uint8).reshape(-1, 16)
    return Chunk(
        ChunkFrames.none(),
        PlacedRecords(np.array(sorted(hashes), np.uint32), none, none, digests, none),
        Runs(np.array([start for start, _ in zero], np.uint32), np.array([count for _, count in zero], np.uint32)),
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_table_is_what_its_chunks_say_and_has_their_root(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    blocks = rng.choice([1, 300, 70_000, 40_000_000])
    ours, plain = table(tmp_path, blocks), dict[int, bytes]()
    for _ in range(6):
        start = rng.randrange(blocks)
        zero = [(start, rng.randrange(1, blocks - start + 1))] if rng.random() < 0.5 else []
        near = rng.randrange(blocks)
        drawn = {rng.randrange(blocks) for _ in range(20)} | set(range(near, min(near + 40, blocks)))
        drawn = {b for b in drawn if not any(s <= b < s + n for s, n in zero)}
        hashes = {b: rng.randbytes(16) for b in drawn}
        ours.put_chunk(chunk(hashes, zero))
        for first, count in zero:
            plain = {b: h for b, h in plain.items() if not first <= b < first + count}
        plain |= hashes
    assert ours.merkle_root() == root_of(ours.capacity_bytes, plain)
    assert [b for batch in ours.nonzero(0, blocks) for b in batch.tolist()] == sorted(plain)
    some = {*rng.sample(sorted(plain), min(50, len(plain))), *(rng.randrange(blocks) for _ in range(50))}
    probe = np.array(sorted(some), np.uint32)
    assert [row.tobytes() for row in ours.entries(probe)] == [plain.get(int(b), bytes(16)) for b in probe]
    other = copied(tmp_path, ours, blocks, plain)
    changed = {b: rng.randbytes(16) for b in rng.sample(sorted(plain), len(plain) // 2)}
    changed[rng.randrange(blocks)] = b"x" * 16
    other.put_chunk(chunk(changed, []))
    assert [b for batch in ours.differing(other) for b in batch.tolist()] == sorted(changed)
    assert ours.merkle_root() != other.merkle_root()


def copied(tmp_path: Path, of: ExpectedTable, blocks: int, plain: dict[int, bytes]) -> ExpectedTable:
    there = tmp_path / "copy"
    there.mkdir()
    out = table(there, blocks)
    out.put_chunk(chunk(plain, []))
    assert out.merkle_root() == of.merkle_root()
    return out


# findings and reports


def test_every_kind_says_what_it_means() -> None:
    assert ABOUT.keys() == set(FindingKind)
    for kind, about in ABOUT.items():
        made = finding(kind, point="1-00000000")
        assert made.meaning == about.meaning and made.remedy == about.remedy
        for text in (about.meaning, about.remedy):
            assert text and text[0].islower() and not text.endswith(".")
    assert unclean([finding(FindingKind.BLOCK_WRONG, point="")])
    assert not unclean([finding(kind, point="") for kind, about in ABOUT.items() if about.severity is Severity.NOTE])


def report(**changes: object) -> AuditReport:
    builder = MapBuilder(10 * BLOCK_BYTES)
    builder.add_run(SOUND, 0, 9)
    builder.add_run(WRONG, 9, 1)
    disk = reports.disk_result(
        builder, id="d", name="d", path="/d", capacity_bytes=10 * BLOCK_BYTES, root="0" * 64, bytes_read=1, seconds=1.0
    )
    found = finding(FindingKind.BLOCK_WRONG, point="1-00000000", disk="d", offset=9 * BLOCK_BYTES, length=BLOCK_BYTES)
    plain = AuditReport(
        1,
        0,
        "",
        "replica",
        "test",
        "host",
        "vm",
        "web",
        "repo",
        "id",
        "/d",
        "all blocks",
        None,
        "then",
        "now",
        1.0,
        100.0,
        1,
        0,
        "findings",
        [disk],
        [found],
    )
    return msgspec.structs.replace(plain, **changes)


def test_reports_come_back_as_they_were(tmp_path: Path) -> None:
    done = archive.of(tmp_path / "reports").keep(report())
    again = reports.decode(done.path.read_bytes(), "test")
    assert again == done.report and again.number == 1 and again.previous == ""
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256
    assert done.path.stat().st_mode & 0o777 == 0o400
    for damage in (b"", b"[]", b"{", done.path.read_bytes().replace(b'"format": 1', b'"format": 2')):
        with pytest.raises(FormatError):
            reports.decode(damage, "test")


def test_a_chain_of_reports_shows_what_was_done_to_it(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    made = [archive.of(home).keep(report(vm=f"vm{number}")) for number in range(5)]
    whole = archive.of(home).verify(head=made[2].sha256)
    assert (whole.count, whole.wrong) == (5, []) and whole.head and whole.head.sha256 == made[-1].sha256
    pristine = {each.path: each.path.read_bytes() for each in made}

    def restore() -> None:
        for path, data in pristine.items():
            path.unlink(missing_ok=True)
            path.write_bytes(data)

    for number in range(5):  # each report edited: by a field, and by nothing but a space
        for edit in (lambda d: d.replace(b'"findings"', b'"clean"', 1), lambda d: d + b" "):
            path = made[number].path
            path.chmod(0o600)
            path.write_bytes(edit(pristine[path]))
            last = number == 4  # the newest shows only against a digest noted elsewhere
            assert bool(archive.of(home).verify().wrong) != last
            assert archive.of(home).verify(head=made[number].sha256).wrong
            restore()
    for number in range(5):
        made[number].path.unlink()
        assert bool(archive.of(home).verify().wrong) == (number != 4)
        assert archive.of(home).verify(head=made[number].sha256).wrong
        restore()
    twin = json.loads(pristine[made[1].path])
    (home / "00000002-replica-other.json").write_text(json.dumps(twin))
    assert any("twice" in what for _, what in archive.of(home).verify().wrong)
    (home / "00000002-replica-other.json").unlink()
    made[3].path.write_bytes(b"{")
    assert [name for name, _ in archive.of(home).verify().wrong] == [made[3].path.name]
    with pytest.raises(FormatError):
        made[4].path.unlink()
        archive.of(home).keep(report())
    with pytest.raises(ConfigError, match="no directory"):
        archive.of(tmp_path / "nowhere").verify()


def changed(done: KeptReport[AuditReport], **fields: object) -> None:
    """A report that anybody has written over."""
    done.path.chmod(0o600)
    done.path.write_text(json.dumps(json.loads(done.path.read_bytes()) | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"number": -5},
        {"number": 10**25},
        {"number": 1.5},
        {"previous": "x"},
        {"many": [[]] * 400_001},
        {"point": {"label": "1-0", "sequence": 10**11, "sha256": "0" * 64, "created": "then"}},
        {"deep": json.loads("[" * 60 + "]" * 60)},
    ],
)
def test_a_report_that_somebody_changed_is_none(tmp_path: Path, fields: dict[str, object]) -> None:
    done = archive.of(tmp_path).keep(report())
    changed(done, **fields)
    assert archive.of(tmp_path).verify().wrong
    with pytest.raises(FormatError):
        archive.of(tmp_path).keep(report())


def test_several_that_end_at_once_are_kept_one_after_the_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: archive.of(tmp_path).keep(report(vm=f"vm{n}")), range(24)))
    assert sorted(each.report.number for each in made) == list(range(1, 25))
    assert not archive.of(tmp_path).verify().wrong


def test_one_that_is_written_all_the_while_is_waited_for_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "LOCK_S", 0.2)
    with locked(tmp_path / ".lock", "the lock of a test"), pytest.raises(LeaseError, match="has been writing"):
        archive.of(tmp_path).keep(report())


@pytest.mark.parametrize("number", [7, 99_999_999])
def test_no_report_follows_one_of_another_number(tmp_path: Path, number: int) -> None:
    done = archive.of(tmp_path).keep(report())
    changed(done, number=number)
    with pytest.raises(FormatError, match="states that it is number"):
        archive.of(tmp_path).keep(report())
    last = tmp_path / "99999999-replica-vm.json"
    done.path.rename(last)
    changed(KeptReport(last, done.report, ""), number=99_999_999)
    with pytest.raises(ConfigError, match="end with number"):
        archive.of(tmp_path).keep(report())


@pytest.mark.parametrize("seen", ["\u00b2", "9" * 5000, "99999999999", "0", "-1", "1e3", "1_0", " 1", "01"])
def test_what_a_changed_report_says_that_it_saw(tmp_path: Path, seen: str) -> None:
    done = archive.of(tmp_path).keep(report(kind="repository", repository="u", vm="", figures={}))
    changed(done, figures={known.HEAD + "vm": f"{seen} {'0' * 64}", known.HEAD + "x": f"7 {'0' * 64}"})
    assert [one.vm for one in known.of_kept(tmp_path, "u", "").seen] == ["x"]
    into = known.KnownRepository()
    known.read(done.path, into)
    assert [one.point.sequence for one in into.seen] == [7]


def test_a_report_of_more_than_one_may_hold_is_kept_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read again would keep the chain from going on."""
    monkeypatch.setattr(reports, "MAX_REPORT_BYTES", 20_000)
    monkeypatch.setattr(archive, "MAX_REPORT_BYTES", 20_000)
    names = [finding(FindingKind.OBJECT_REPLAYED, point="1-0", actual="VM " + "\U0001f525" * 5000) for _ in range(40)]
    assert all(len(one.actual) <= 1000 for one in names)
    done = archive.of(tmp_path).keep(report(findings=names))
    again = archive.of(tmp_path).keep(report())
    assert 0 < len(done.report.findings) < 40 and len(done.report.findings) + done.report.findings_left_out == 40
    assert again.report.number == 2 and not archive.of(tmp_path).verify().wrong
    monkeypatch.setattr(reports, "MAX_REPORT_BYTES", 500)
    short, data = reports.fitting(report(findings=names))
    assert not short.findings and short.notes and reports.decode(data, "x").disks[0].map.columns() == [[], [], [], []]
