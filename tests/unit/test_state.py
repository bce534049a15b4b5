"""Local state: the hash table, the page map, the journal, records and locks; damaged, and killed at each step."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rig import data_places, flip_in_place
from warmspare.errors import StoreError
from warmspare.format.hashtable import root_of
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events
from warmspare.state.local_files import locked, read_record, write_record
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.sync.journal.journal import Journal, RunRecord
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.local.pagemap import PageMap

BLOCKS = 300_000
CAPACITY = BLOCKS * BLOCK_BYTES
Entries = dict[int, bytes]


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


WRITES = ("pwrite", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "write")


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Die before the step-th system call that changes a file; a torn write of half its bytes goes before it."""
    count = [0]
    with monkeypatch.context() as patch:
        for name in WRITES:
            real = getattr(os, name)

            def call(*args: object, real: Callable[..., object] = real, name: str = name, **kwargs: object) -> object:
                count[0] += 1
                if count[0] == step:
                    if name == "pwrite":
                        fd, data, offset = args  # type: ignore[misc]
                        real(fd, bytes(data)[: len(bytes(data)) // 2], offset)  # type: ignore[arg-type]
                    raise Killed
                if count[0] > step:
                    raise Killed  # the dead write nothing more
                return real(*args, **kwargs)

            patch.setattr(os, name, call)
        yield count


def stage(table: HashTable, entries: Entries) -> None:
    blocks = sorted(entries)
    hashes = np.frombuffer(b"".join(entries[b] for b in blocks), dtype=np.uint8).reshape(-1, 16)
    table.stage(np.array(blocks, dtype=np.uint32), hashes)


def random_entries(rng: random.Random, count: int) -> Entries:
    middle = rng.randrange(BLOCKS)
    near = [b for b in (middle + rng.randrange(-300, 300) for _ in range(count // 2)) if 0 <= b < BLOCKS]
    return {b: rng.randbytes(16) for b in [*near, *(rng.randrange(BLOCKS) for _ in range(count // 2))]}


def without_zeros(entries: Entries) -> Entries:
    return {b: h for b, h in entries.items() if any(h)}


@pytest.mark.parametrize("seed", range(6))
def test_the_table_is_a_dictionary_with_a_root(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path, model = tmp_path / "table", Entries()
    generation = None
    for number in range(8):
        with HashTable(path) as table:
            assert table.generation == generation
            future = dict(model)
            for _ in range(rng.randrange(1, 4)):
                if rng.random() < 0.6:
                    new = random_entries(rng, 40)
                    stage(table, new)
                    future.update(new)
                else:
                    start, count = rng.randrange(BLOCKS), rng.choice([1, 300, 70_000])
                    count = min(count, BLOCKS - start)
                    table.stage_zero(start, count)
                    future = {b: h for b, h in future.items() if not start <= b < start + count}
                some = sorted(rng.sample(range(BLOCKS), 20) + list(model)[:20])
                read = table.read(np.unique(np.array(some, dtype=np.uint32)))
                want = [model.get(b, bytes(16)) for b in sorted(set(some))]
                assert [r.tobytes() for r in read] == want, "what is staged must not show"
            assert table.staged_root(CAPACITY) == root_of(CAPACITY, future)
            if rng.random() < 0.7:
                model, generation = without_zeros(future), f"{number:064x}"
                table.commit(generation, CAPACITY)
                table.check(CAPACITY, root_of(CAPACITY, model))
                found = [b for part in table.nonzero(0, BLOCKS) for b in part.tolist()]
                assert found == sorted(model)
                with pytest.raises(TableDamagedError):
                    table.check(CAPACITY + 1, root_of(CAPACITY, model))


def make_table(path: Path, rng: random.Random) -> Entries:
    entries = random_entries(rng, 200)
    with HashTable(path) as table:
        stage(table, entries)
        table.commit("a" * 64, CAPACITY)
    return entries


@pytest.mark.long
def test_a_table_killed_at_each_step_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards it is the old one, or the new one, or knows that it is neither; and rebuilding it works."""
    outcomes: set[str] = set()
    step = 0
    finished = False
    while not finished:
        step += 1
        rng = random.Random(4)
        path = tmp_path / f"table-{step}"
        old = make_table(path, rng)
        new = {**old, **random_entries(rng, 20)}
        table = HashTable(path)
        stage(table, new)
        table.stage_zero(min(new), 1)
        new = {b: h for b, h in new.items() if b != min(new)}
        with killed_at(monkeypatch, step):
            try:
                table.commit("b" * 64, CAPACITY)
                finished = True
            except Killed:
                pass
        table._table.file.close()
        with HashTable(path) as again:
            kind = {None: "none", "a" * 64: "old", "b" * 64: "new"}[again.generation]
            outcomes.add(kind)
            if kind != "none":
                expected = old if kind == "old" else new
                again.check(CAPACITY, root_of(CAPACITY, expected))
                blocks = np.array(sorted({*old, *new}), dtype=np.uint32)
                want = [expected.get(b, bytes(16)) for b in blocks.tolist()]
                assert [r.tobytes() for r in again.read(blocks)] == want
            again.reset()
            stage(again, new)
            again.commit("c" * 64, CAPACITY)
            again.check(CAPACITY, root_of(CAPACITY, new))
    # A write that is torn in the header itself leaves none, so the old one only survives what comes before it.
    assert {"none", "new"} <= outcomes and step > 8


def test_damage_to_a_table_is_seen_or_harmless(tmp_path: Path) -> None:
    rng = random.Random(5)
    path = tmp_path / "table"
    entries = make_table(path, rng)
    blocks = np.array(sorted(entries), dtype=np.uint32)
    want = [entries[b] for b in blocks.tolist()]
    root = root_of(CAPACITY, entries)
    noticed = 0
    for at in data_places(path, rng, 60):
        flip_in_place(path, at)
        try:
            with HashTable(path) as table:
                if table.generation == "a" * 64:
                    table.check(CAPACITY, root)
                    assert [r.tobytes() for r in table.read(blocks)] == want
                else:
                    noticed += 1
        except TableDamagedError:
            noticed += 1
        flip_in_place(path, at)
    assert noticed > 20


# the page map


def rows(rng: random.Random, count: int) -> tuple[np.ndarray, np.ndarray]:
    blocks = np.array(sorted(rng.sample(range(2000), count)), dtype=np.uint32)
    hashes = np.array([[rng.getrandbits(64) | 1 for _ in range(16)] for _ in range(count)], dtype=np.uint64)
    return blocks, hashes


def test_the_page_map_killed_at_each_step_of_its_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted afterwards only with entries that are right or unknown."""
    outcomes: set[str] = set()
    step = 0
    finished = False
    while not finished:
        step += 1
        rng = random.Random(6)
        path = tmp_path / f"map-{step}"
        before, after = rows(rng, 60), rows(rng, 60)
        with PageMap(path) as pages:
            seed = pages.seed
            pages.begin()
            pages.write(*before)
            pages.finish("a" * 64)
        pages = PageMap(path)
        with killed_at(monkeypatch, step):
            try:
                pages.begin()
                pages.write(*after)
                pages.finish("b" * 64)
                finished = True
            except Killed:
                pass
        pages.close()
        model = {int(b): h.tolist() for b, h in zip(*before, strict=True)}
        with PageMap(path) as again:
            kind = {None: "none", "a" * 64: "old", "b" * 64: "new"}[again.generation]
            outcomes.add(kind)
            if kind == "none":
                continue
            assert again.seed == seed
            if kind == "new":
                model.update({int(b): h.tolist() for b, h in zip(*after, strict=True)})
            found = again.read(np.arange(2000, dtype=np.uint32))
            for block in range(2000):
                for got, right in zip(found[block].tolist(), model.get(block, [0] * 16), strict=True):
                    assert got in (0, right)
    assert {"none", "new"} <= outcomes and step > 8


def test_damage_to_the_page_map_reads_as_unknown(tmp_path: Path) -> None:
    rng = random.Random(7)
    path = tmp_path / "map"
    blocks, hashes = rows(rng, 200)
    with PageMap(path) as pages:
        pages.begin()
        pages.write(blocks, hashes)
        pages.finish("a" * 64)
    sums = tmp_path / "map.sums"
    kept = {file: file.read_bytes() for file in (path, sums)}
    unknown = 0
    for file in (path, sums):
        for at in [*data_places(file, rng, 40), *(rng.randrange(file.stat().st_size) for _ in range(200))]:
            flip_in_place(file, at)
            assert file.read_bytes() != kept[file]
            with PageMap(path) as pages:
                if pages.generation == "a" * 64:
                    found = pages.read(blocks)
                    assert np.all((found == hashes) | (found == 0)), "a damaged entry was believed"
                    assert (pages.damaged_segments > 0) == bool((found == 0).any())
                    unknown += int((found == 0).any())
                else:
                    unknown += 1
            for name, data in kept.items():
                name.write_bytes(data)
    assert unknown > 50


def test_forgetting_the_map_changes_its_seed(tmp_path: Path) -> None:
    with PageMap(tmp_path / "map") as pages:
        seed = pages.seed
        pages.begin()
        pages.write(*rows(random.Random(8), 5))
        pages.finish("a" * 64)
        pages.reset()
        assert pages.generation is None and pages.seed not in (0, seed)
        assert not pages.read(np.arange(2000, dtype=np.uint32)).any()


# journal, records, locks


def test_a_torn_page_log_gives_its_whole_batches(tmp_path: Path) -> None:
    rng = random.Random(9)
    batches = [rows(rng, n) for n in (1, 30, 7)]
    log = PageLog(tmp_path / "log")
    ends = []
    for blocks, hashes in batches:
        log.append(blocks, hashes)
        ends.append((tmp_path / "log").stat().st_size)
    log.sync()
    log.close()
    whole = (tmp_path / "log").read_bytes()
    for size in [0, 5, ends[0] - 1, ends[0], ends[0] + 3, ends[1] - 1, ends[1], ends[2] - 1, ends[2]]:
        (tmp_path / "log").write_bytes(whole[:size])
        log = PageLog(tmp_path / "log")
        found = list(log.replay())
        log.close()
        assert len(found) == sum(end <= size for end in ends)
        for (b, h), (wb, wh) in zip(found, batches, strict=False):
            assert b.tolist() == wb.tolist() and h.tolist() == wh.tolist()
    flipped = bytearray(whole)
    flipped[ends[0] + 40] ^= 1
    (tmp_path / "log").write_bytes(bytes(flipped))
    log = PageLog(tmp_path / "log")
    assert len(list(log.replay())) == 1
    log.close()


def test_the_journal_is_cleared_record_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 9):
        home = tmp_path / str(step)
        journal = Journal(home, Events())
        record = RunRecord("f" * 32, 3, "a" * 64)
        journal.begin(record)
        assert Journal(home, Events()).left_over() == record
        journal.page_log(0).close()
        journal.manifest_path(0).write_bytes(b"x")
        (home / "odd").mkdir()
        with killed_at(monkeypatch, step):
            try:
                journal.clear()
            except Killed:
                assert Journal(home, Events()).left_over() == record or not list(home.iterdir())
        Journal(home, Events()).clear()
        assert Journal(home, Events()).left_over() is None and not list(home.iterdir())


class Record(msgspec.Struct):
    number: int
    text: str


def test_a_record_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    old, new = Record(1, "ä" * 50), Record(2, "b" * 50)
    seen = set()
    for step in range(1, 7):
        write_record(path, old, "it")
        with killed_at(monkeypatch, step), suppress(Killed):
            write_record(path, new, "it")
        found = read_record(path, Record, "it", Events())
        assert found in (old, new)
        seen.add(found.number)  # type: ignore[union-attr]
    assert seen == {1, 2}
    good = path.read_bytes()
    for at in range(len(good)):
        data = bytearray(good)
        data[at] ^= 4
        path.write_bytes(bytes(data))
        assert read_record(path, Record, "it", Events()) in (None, new), "damage passed for state"
        path.write_bytes(good[:at])
        assert read_record(path, Record, "it", Events()) in (None, new)
    path.unlink()
    assert read_record(path, Record, "it", Events()) is None


@pytest.mark.program
def test_a_lock_is_held_by_one_and_falls_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys,time\nfrom pathlib import Path\nfrom warmspare.state.local_files import locked\n"
        f"with locked(Path({str(path)!r}), 'it') as mine:\n    print(mine, flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "True\n"
    with locked(path, "it") as mine:
        assert not mine
    child.kill()
    child.wait()
    with locked(path, "it") as mine, locked(path, "it") as again:
        assert mine and not again


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for call in (
        lambda: HashTable(tmp_path / "file" / "table"),
        lambda: PageMap(tmp_path / "file" / "map"),
        lambda: write_record(tmp_path / "file" / "r", Record(1, ""), "the state directory"),
        lambda: Journal(tmp_path / "file" / "j", Events()).begin(RunRecord("", 1, None)),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert "state directory" in caught.value.sentence and str(tmp_path / "file") in caught.value.sentence
