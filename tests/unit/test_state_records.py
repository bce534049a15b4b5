"""Records that a host keeps for itself: whatever stands in one is taken whole, or is told of and taken for lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash

from rigs.host.hearing import recorder
from warmspare.audit.replica import replica_progress
from warmspare.audit.replica.replica_progress import ProgressFile, Stamp
from warmspare.audit.reports.report import SOUND, MapBuilder
from warmspare.audit.repository.deep import deep_progress
from warmspare.audit.repository.deep.deep_progress import Keeper, Pending
from warmspare.audit.repository.scratch import Scratch
from warmspare.audit.repository.seen import KnownRepository, read
from warmspare.errors import ConfigError
from warmspare.model.ids import PointId, RequestId
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.event import record_of
from warmspare.observe.events import Events
from warmspare.recover.failback.returning import ExportRecord, begin_export
from warmspare.recover.staging.diskstage import Traces, _Memory
from warmspare.repository.trust import StoreTrial, TrustRecord
from warmspare.source.logins import _decoded
from warmspare.state.local_files import read_record, write_record
from warmspare.state.replica_record import ReplicaDisk, ReplicaRecord
from warmspare.sync.journal.journal import Journal, RunRecord, Sealed
from warmspare.sync.local.local_state import Rate
from warmspare.sync.local.state_record import AdoptedRecord, StateRecord
from warmspare.sync.need import MadePoints
from warmspare.sync.planning.marked_blocks import _Done
from warmspare.sync.planning.rolling_cursor import RollingCursor
from warmspare.sync.resuming.leftovers import Leftover, Leftovers, _Noted
from warmspare.sync.resuming.unpublished import Unfinished
from warmspare.vsphere.snapshots.marker import Marker, parse

RUN, SHA, NOW = "b" * 32, "a" * 64, "2026-01-02T03:04:05Z"
BLOCKS = 10


def a_map() -> MapBuilder:
    made = MapBuilder(BLOCKS * BLOCK_BYTES)
    made.add_run(SOUND, 0, 4)
    return made


DISK = replica_progress.ReplicaDiskProgress(
    "d", BLOCKS * BLOCK_BYTES, Stamp(1, 2**64 - 1, 3, -4, 5), 7, 8, 1.5, a_map().build(), [(1, 1), (4, 3)]
)
PROGRESS = replica_progress.ReplicaProgress(1, "x", PointId(1, SHA), PointId(1, SHA), None, NOW, 1e9, 7, [DISK])
DEEP = deep_progress.DeepProgress(
    1,
    RUN,
    "vm",
    "0f",
    NOW,
    3,
    SHA,
    2,
    SHA,
    disks={"d": deep_progress.DeepDiskProgress(1 << 20, 3, [(1, 2)], "2-x")},
    pending=Pending("d", [1, 2], [3, 65535], [(0, 1)], 2),
)
# Each record that there is, and what of it can't be: by the field's place, and what stands there.
RECORDS: list[tuple[msgspec.Struct, list[tuple[str, Any]]]] = [
    (StateRecord(RUN, "s3://b/p", "vm", 1, SHA), [("repository", "../x"), ("sequence", -1), ("sha256", SHA + "\n")]),
    (AdoptedRecord("vm"), [("chain", "x" * 5000)]),
    (
        MadePoints(PointId(2, SHA), {RequestId("run 1"): PointId(1, SHA)}),
        [("newest.sequence", 0), ("newest.sha256", "x"), ("made.run 1.sha256", SHA + "\n"), ("made", {"x" * 5000: {}})],
    ),
    (Rate(1, 2.0), [("bytes_sent", -1), ("seconds", -0.5), ("seconds", 1e300)]),
    (RunRecord(RUN, 1, None, "/spool/\udcff"), [("run", "../../x"), ("sequence", -1), ("spool", "\ud800")]),
    (Sealed(b"point"), [("point", "not base64!"), ("point", 7)]),
    (_Noted([Leftover(RUN, 1, [1], True)]), [("runs.0.run", "x"), ("runs.0.named", [-1]), ("runs.0.sequence", 10**11)]),
    (_Done(["key"]), [("keys", ["x" * 5000]), ("keys", [None])]),
    (
        RollingCursor(1, 2.0),
        [("span", -1), ("last_s", 1e13), ("owed_s", -1.0), ("covered_s", "never"), ("round_spans", 0.5)],
    ),
    (
        TrustRecord(RUN, "s", "w", {"create": "no"}),
        [
            ("repository", ""),
            ("broken", {"a": 1}),
            ("broken", {str(n): "" for n in range(99)}),
        ],
    ),
    (StoreTrial(RUN), [("token", "../.."), ("token", "")]),
    (_Memory(1), [("attempt", -1), ("attempt", 2**63)]),
    (ExportRecord("", "vm", RUN, ["snap-1"]), [("id", "x"), ("run", RUN + "0"), ("left", [1])]),
    (
        ReplicaRecord(1, RUN, "uri", "vm", PointId(1, SHA), None, [ReplicaDisk("d", "n", 1 << 20, [(0, 16)])]),
        [
            ("at.sequence", 0),
            ("repository", "x"),
            ("disks.0.damaged", [[0, 17]]),
            ("disks.0.damaged", [[1, -1]]),
            ("disks.0.capacity_bytes", 1 << 60),
            ("disks.0.path", "x" * 5000),
        ],
    ),
    (
        PROGRESS,
        [
            ("began", "2026-02-31T00:00:00Z"),
            ("began", "\x1b[2J"),
            ("seed", -1),
            ("point.sha256", "x"),
            ("disks.0.next_block", BLOCKS + 1),
            ("disks.0.suspects", [[4, 3], [1, 1]]),
            ("disks.0.suspects", [[9, 2]]),
            ("disks.0.suspects", [[1, 0]]),
            ("disks.0.map.sound", "1x99999999"),
            ("disks.0.map.sound", "1 2 3"),
            ("disks.0.map.sound", "-1x10"),
            ("disks.0.map.sound", "x"),
            ("disks.0.map.cell_blocks", 2),
            ("disks.0.map.zero", "9" * 30 + "x10"),
            ("disks.0.capacity_bytes", 1 << 50),
            ("disks.0.stamp.size", -1),
        ],
    ),
    (
        DEEP,
        [
            ("began", "now"),
            ("at", 4),
            ("at", 0),
            ("at_sha256", "y"),
            ("token", "../x"),
            ("chunks", -1),
            ("disks.d.spans", [[0, 1]]),
            ("pending.blocks", [1]),
            ("pending.pages", [1, 1 << 16]),
            ("pending.count", -1),
            ("findings", [{"kind": "x"}]),
        ],
    ),
]


def kept(path: Path, body: bytes) -> None:
    """As a record that was meant to be so: with its checksum."""
    path.write_bytes(b"%016x\n%s\n" % (xxhash.xxh3_64_intdigest(body), body))


def told_of(path: Path, kind: type[Any]) -> str:
    """What is told of a record that is taken for lost."""
    told: list[dict[str, Any]] = []
    events = Events(recorder(told))
    for _ in range(2):
        assert read_record(path, kind, "the state directory", events) is None
    [event] = told  # once a run
    assert event["event"] == "state.unreadable" and event["path"] == str(path)
    return str(event["message"])


def changed(record: Any, place: str, value: object) -> Any:
    whole = at = msgspec.to_builtins(record)
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in way:
        at = at[part]
    assert at[last] != value
    at[last] = value
    return whole


@pytest.mark.parametrize(("record", "wrong"), RECORDS, ids=lambda one: getattr(type(one), "__module__", None))
def test_a_record_of_state(tmp_path: Path, record: msgspec.Struct, wrong: list[tuple[str, Any]]) -> None:
    path, kind = tmp_path / "record.json", type(record)
    write_record(path, record, "it")
    assert read_record(path, kind, "it", Events()) == record
    whole = msgspec.to_builtins(record)
    for place, value in [*wrong, *((name, {"a": {}}) for name in whole if not isinstance(whole[name], dict))]:
        kept(path, json.dumps(changed(record, place, value)).encode())
        assert told_of(path, kind), (place, value)
    first = next(iter(whole))
    for body, why in (
        (b"[]", "not an object"),
        (json.dumps(whole).encode()[:-1], "cut off"),
        (b"{}", ""),
        (b"", "not JSON"),
        (json.dumps(whole).encode()[:-1] + b', "%s": 1}' % first.encode(), "stands twice"),
        (b'{"%s": ' % first.encode() + b"[" * 100_000, "nested too deeply"),
    ):
        if body == b"{}" and kind in (_Memory,):
            continue
        kept(path, body)
        assert why in told_of(path, kind)
    path.write_bytes(b"%016x\n{}\n" % 0)
    assert "checksum" in told_of(path, kind)


def test_a_record_without_end(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than a record" in told_of(path, _Done)
    kept(path, b'{"keys": [' + b"[]," * 3_000_000 + b"[]]}")
    assert "more values" in told_of(path, _Done)


def test_whoever_reads_one_tells_of_it(tmp_path: Path) -> None:
    """And goes on as if it were not there."""
    told: list[str] = []
    events = Events(lambda event: told.append(Path(record_of(event)["path"]).name))
    journal, shelf = Journal(tmp_path / "run", events), tmp_path / "shelf"
    scratch = Scratch(tmp_path / "scratch")
    keeper = Keeper(scratch, RUN, "vm", events)
    reads: dict[str, Callable[[], object]] = {
        "run/run.json": journal.left_over,
        "run/sealed.json": journal.sealed,
        "leftovers.json": lambda: Leftovers(tmp_path / "leftovers.json", "vm", events).known() or None,
        "shelf/000001/run.json": lambda: (
            Unfinished(shelf, Leftovers(tmp_path / "none.json", "vm", events), "vm", events).runs() or None
        ),
        "audit.json": lambda: RollingCursor.read(tmp_path / "audit.json", events),
        "attempt.json": lambda: Traces(tmp_path, events).attempt or None,
        "progress.json": ProgressFile(tmp_path / "progress.json", "x", events).read,
        f"scratch/{keeper.name}.json": keeper.load,
    }
    for name, ask in reads.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        kept(tmp_path / name, b'{"a": 1, "a": 2}')
        assert ask() is None, name
        assert told.pop() == Path(name).name and not told, name
    export = tmp_path / ".warmspare-export.json"
    kept(export, b'{"id": "", "vm": "v", "run": "x"}')
    begun = begin_export(tmp_path, "v", RUN, events)
    assert told == [export.name] and begun.left == []
    assert begin_export(tmp_path, "v", RUN, events) == begun, "it is a record again"


def test_the_oldest_that_was_noted_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is noted can be read again."""
    monkeypatch.setattr("warmspare.sync.resuming.leftovers.MOST_PACKS", 40)
    left = Leftovers(tmp_path / "leftovers.json", "vm", Events())
    runs = [Leftover(f"{number:032x}", 1, list(range(10))) for number in range(6)]
    left.note(*runs)
    assert [one.run for one in left.known()] == [one.run for one in runs[-4:]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b'"accepted"',
        b"7",
        b'{"accepted": 1e999}',
        b'{"accepted": ' + b"9" * 400 + b"}",
        b'{"accepted": NaN}',
        b'{"accepted": -1}',
        b"[" * 4000,
        b'{"refused": 1, "by": []}',
        b'{"refused": "now"}',
        b'{"accepted": 1, "accepted": 2}',
        b"\xff",
    ],
)
def test_a_note_of_a_login_that_says_nothing(raw: bytes) -> None:
    assert _decoded(raw) is None


@pytest.mark.parametrize("text", ["{" * 5000, '{"a":' * 5000, "", "{}", '{"product": "warmspare"', "{\ud800}"])
def test_a_snapshot_of_somebody_elses(text: str) -> None:
    assert parse("Before the upgrade " + text) is None
    ours = Marker.of(os.fsdecode(b"/mnt/\xff"), "vm", RUN)
    assert ours.this_run(ours.description())


def test_what_is_compared_against_has_types_too(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    run = RUN.encode()
    for body in (b'{"repository": "../x", "vm": "v"}', b'{"repository": "%s", "vm": 1}' % run, b'{"a": 1, "a": 2}'):
        kept(path, body)
        with pytest.raises(ConfigError, match="this can't be compared against"):
            read(path, KnownRepository())
