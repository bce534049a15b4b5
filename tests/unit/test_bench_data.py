"""Tests of the bench's data builder: are the images real, the changes where they say, the counts right?"""

from __future__ import annotations

import hashlib
import os
import runpy
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rigs.images import corpus, data, diff, ext4, gpt, huge
from rigs.images import pgpages as pg
from rigs.images.pgstore import PGDATA
from rigs.paths import PROJECT

PLAIN_APPLY = runpy.run_path(str(PROJECT / "bench" / "plain_apply.py"))
PAGE = 4096
ROOTS = ("/usr/bin", "/usr/share/doc", "/usr/share/perl5", "/usr/share/zoneinfo", "/usr/lib/python3")


def build(path: Path, *, seed: int = 1, use_gpt: bool = True) -> Path:
    data.build_image(path, content_mb=14, image_mb=28, seed=seed, gpt=use_gpt, database_mb=6, roots=ROOTS)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        ext4.tool("mke2fs")
    except ext4.ToolError as error:
        pytest.skip(str(error))
    return build(tmp_path_factory.mktemp("bench-data") / "base.raw")


@pytest.fixture
def image(base: Path, tmp_path: Path) -> Path:
    data.copy_sparse(base, tmp_path / "image.raw")
    return tmp_path / "image.raw"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed_blocks(before: Path, after: Path) -> set[int]:
    extents = data.changed_extents(before, after, PAGE)
    return {at for offset, length in extents for at in range(offset, offset + length, PAGE)}


def file_blocks(image: Path, entries: list[ext4.Entry]) -> set[int]:
    return {int(block) for file in ext4.map_files(image, entries) for block in file.blocks if block >= 0}


def naive_extents(before: bytes, after: bytes, granularity: int) -> list[tuple[int, int]]:
    before = before[: len(after)].ljust(len(after), b"\0")
    units = sorted({at // granularity for at in range(len(after)) if before[at] != after[at]})
    merged: list[tuple[int, int]] = []
    for unit in units:
        start, end = unit * granularity, min((unit + 1) * granularity, len(after))
        if merged and sum(merged[-1]) == start:
            start = merged.pop()[0]
        merged.append((start, end - start))
    return merged


@pytest.mark.program
def test_the_image_is_a_clean_ext4_of_real_files_in_a_valid_gpt(base: Path) -> None:
    ext4.check(base)
    raw = base.read_bytes()
    assert raw[510:512] == b"\x55\xaa" and raw[450] == 0xEE
    sectors = len(raw) // 512
    for lba, other in ((1, sectors - 1), (sectors - 1, 1)):
        header = bytearray(raw[lba * 512 : lba * 512 + 92])
        stated = struct.unpack_from("<I", header, 16)[0]
        header[16:20] = bytes(4)
        own, backup = struct.unpack_from("<QQ", header, 24)
        entries_lba, count, size, entries_crc = struct.unpack_from("<QIII", header, 72)
        assert header[:8] == b"EFI PART" and zlib.crc32(header) == stated
        assert (own, backup) == (lba, other)
        assert zlib.crc32(raw[entries_lba * 512 : entries_lba * 512 + count * size]) == entries_crc
    assert gpt.find_partition(base) == 1 << 20

    files = [entry for entry in ext4.tree(base) if entry.is_file and entry.path.startswith("/usr/")]
    assert len(files) > 20
    for entry, file in zip(files, ext4.map_files(base, files), strict=True):
        real = Path(entry.path).read_bytes()
        inside = b"".join(raw[at : at + PAGE] if at >= 0 else bytes(PAGE) for at in file.blocks.tolist())
        assert inside[: len(real)] == real and file.size_bytes == len(real)


@pytest.mark.program
def test_a_damaged_gpt_is_refused(image: Path) -> None:
    with open(image, "r+b") as file:
        file.seek(512 + 40)
        file.write(b"\xff")
    with pytest.raises(ValueError, match="checksum"):
        gpt.find_partition(image)


@pytest.mark.program
def test_a_bare_file_system_has_no_partition_table(tmp_path: Path) -> None:
    bare = build(tmp_path / "bare.raw", use_gpt=False)
    assert gpt.find_partition(bare) == 0
    assert bare.read_bytes()[1080:1082] == b"\x53\xef"  # ext4's magic where an unpartitioned one has it
    ext4.check(bare)


@pytest.mark.program
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(base: Path, tmp_path: Path) -> None:
    assert digest(build(tmp_path / "again.raw")) == digest(base)
    assert digest(build(tmp_path / "other.raw", seed=2)) != digest(base)


@pytest.mark.program
def test_holes_stay_holes(base: Path, image: Path) -> None:
    nonzero = data.nonzero_bytes(base)
    assert 13 << 20 <= nonzero <= 17 << 20
    for path in (base, image):
        assert path.stat().st_size == 28 << 20
        assert path.stat().st_blocks * 512 <= nonzero + (1 << 20)
    assert image.read_bytes() == base.read_bytes()


CHANGES: dict[str, Callable[[Path, int], object]] = {
    "upgrade": lambda path, seed: data.package_upgrade(path, megabytes=2, seed=seed),
    "database": lambda path, seed: data.database_run(path, seconds=5, tps=20, seed=seed),
    "scattered": lambda path, seed: data.scattered(path, writes=40, seed=seed),
    "zero": lambda path, seed: data.zero_files(path, megabytes=1, seed=seed),
}


@pytest.mark.program
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_deterministic_and_leaves_a_clean_file_system(
    name: str, base: Path, image: Path, tmp_path: Path
) -> None:
    twin, other = tmp_path / "twin.raw", tmp_path / "other.raw"
    for path, seed in ((image, 7), (twin, 7), (other, 8)):
        data.copy_sparse(base, path)
        CHANGES[name](path, seed)
        ext4.check(path)
    assert digest(image) == digest(twin) != digest(base)
    assert digest(other) != digest(image)


@pytest.mark.program
def test_an_upgrade_leaves_old_blocks_alone_and_writes_new_inodes(base: Path, image: Path) -> None:
    before = {entry.path: entry for entry in ext4.tree(base) if entry.is_file}
    written = data.package_upgrade(image, megabytes=2, seed=3)
    after = {entry.path: entry for entry in ext4.tree(image) if entry.is_file}
    assert not [path for path in after if path.endswith((".dpkg-new", "status-new"))]
    kept = before.keys() & after.keys()
    replaced = [path for path in kept if before[path].inode != after[path].inode]
    assert len(replaced) > 3 and before.keys() - after.keys() and after.keys() - before.keys()
    untouched = [before[path] for path in kept if before[path].inode == after[path].inode]
    changed = changed_blocks(base, image)
    assert not file_blocks(base, untouched) & changed
    assert 2 << 20 <= written <= 8 << 20
    assert written * 0.8 <= len(changed) * PAGE <= written * 1.5
    # Real contents: they compress like files, neither like noise nor like nothing.
    ratio = data.changed_pages_zstd(base, image) / data.changed_pages_bytes(base, image)
    assert 0.1 < ratio < 0.9


@pytest.mark.program
def test_a_database_run_changes_only_the_databases_blocks_and_metadata(base: Path, image: Path) -> None:
    entries = [entry for entry in ext4.tree(base) if entry.is_file]
    own = file_blocks(base, [entry for entry in entries if entry.path.startswith(PGDATA)])
    others = file_blocks(base, [entry for entry in entries if not entry.path.startswith(PGDATA)])
    assert data.database_run(image, seconds=10, tps=20, seed=5) == 200
    changed = changed_blocks(base, image)
    assert len(changed & own) > 150
    assert not changed & others
    assert len(changed - own) < 16  # superblock, inode table, bitmap, a directory
    ratio = data.changed_pages_zstd(base, image) / data.changed_pages_bytes(base, image)
    assert 0.02 < ratio < 0.4


@pytest.mark.program
def test_a_second_database_run_goes_on_where_the_first_stopped(image: Path) -> None:
    def wal(path: Path) -> list[str]:
        return [entry.path for entry in ext4.tree(path, f"{PGDATA}/pg_wal")]

    before = wal(image)
    data.database_run(image, seconds=30, tps=20, seed=5)
    data.database_run(image, seconds=30, tps=20, seed=5)
    ext4.check(image)
    after = wal(image)
    assert len(after) == len(before) and max(after) > max(before)  # segments were recycled under new names


def test_heap_pages_stay_well_formed_through_updates_and_pruning() -> None:
    page = bytearray(pg.initial_heap(pg.ACCOUNTS, 1, seed=1, first_page=3)[0].tobytes())
    random = np.random.default_rng(1)
    balances: dict[int, int] = {}
    rows = range(1, pg.ACCOUNTS.tuples_per_page + 1)
    for root in rows:
        at = pg.live_tuple(page, root)[1]
        aid, _, balances[root] = pg.ACCOUNTS.columns.unpack_from(page, at + pg.TUPLE_BYTES)
        assert aid == 3 * pg.ACCOUNTS.tuples_per_page + root
    pruned = 0
    for xid in range(1000, 1500):
        root, delta = int(random.integers(1, len(rows) + 1)), int(random.integers(-5000, 5000))
        pruned += pg.hot_update(page, root, pg.ACCOUNTS, 3, xid, delta)
        balances[root] += delta
        lower, upper = pg.bounds(page)
        assert pg.HEADER_BYTES <= lower <= upper <= pg.PAGE_BYTES
    assert pruned > 10
    for root in rows:
        at = pg.live_tuple(page, root)[1]
        aid, _, balance = pg.ACCOUNTS.columns.unpack_from(page, at + pg.TUPLE_BYTES)
        assert (aid, balance) == (3 * pg.ACCOUNTS.tuples_per_page + root, balances[root])


@pytest.mark.program
def test_scattered_writes_change_exactly_the_pages_they_name(base: Path, image: Path) -> None:
    writes = data.scattered(image, writes=50, seed=9)
    assert len({offset for offset, _ in writes}) == 50
    assert all(offset % 8192 == 0 and length == 8192 for offset, length in writes)
    touched = {at for offset, _ in writes for at in (offset, offset + PAGE)}
    changed = changed_blocks(base, image)
    assert changed <= touched
    assert all(offset in changed for offset, _ in writes)
    assert touched <= file_blocks(base, [entry for entry in ext4.tree(base) if entry.is_file])


@pytest.mark.program
def test_removed_files_become_zeros_also_inside_kept_blocks(base: Path, image: Path) -> None:
    zeroed = data.zero_files(image, megabytes=1, seed=2)
    before, after = base.read_bytes(), image.read_bytes()
    zero = bytes(PAGE)
    became = {at for at in range(0, len(after), PAGE) if after[at : at + PAGE] == zero != before[at : at + PAGE]}
    assert len(became) * PAGE >= zeroed * 0.9 > 0
    kept = {at // 65536 for at in became if after[at // 65536 * 65536 :][:65536].strip(b"\0")}
    assert kept
    assert image.stat().st_blocks < base.stat().st_blocks  # the larger ones became holes


@settings(max_examples=60, deadline=None)
@given(
    before=st.binary(max_size=40_000),
    edits=st.lists(st.tuples(st.integers(0, 45_000), st.binary(min_size=1, max_size=700)), max_size=6),
    resized=st.integers(-3000, 3000),
    granularity=st.sampled_from([512, 1024, 4096, 65536, 1 << 20]),
)
def test_changed_extents_agree_with_a_byte_for_byte_comparison(
    tmp_path_factory: pytest.TempPathFactory,
    before: bytes,
    edits: list[tuple[int, bytes]],
    resized: int,
    granularity: int,
) -> None:
    after = bytearray(before[: max(0, len(before) + resized)].ljust(len(before) + max(0, resized), b"\0"))
    del after[max(0, len(before) + resized) :]
    for at, content in edits:
        after[at : at + len(content)] = content[: max(0, len(after) - at)]
    folder = tmp_path_factory.getbasetemp()
    old, new = folder / "extents-old", folder / "extents-new"
    old.write_bytes(before)
    new.write_bytes(after)
    assert data.changed_extents(old, new, granularity) == naive_extents(before, bytes(after), granularity)


def test_changed_extents_see_through_holes_and_span_boundaries(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        with open(path, "wb") as file:
            file.truncate(64 << 20)
    with open(old, "r+b") as file:
        os.pwrite(file.fileno(), b"x" * 8192, (8 << 20) - PAGE)  # data became a hole, across a span boundary
        os.pwrite(file.fileno(), bytes(PAGE), 20 << 20)  # written zeros equal a hole
    with open(new, "r+b") as file:
        os.pwrite(file.fileno(), b"y", (64 << 20) - 1)
    assert data.changed_extents(old, new, PAGE) == [((8 << 20) - PAGE, 8192), ((64 << 20) - PAGE, PAGE)]
    assert data.changed_extents(old, new, 1 << 20) == [(7 << 20, 2 << 20), (63 << 20, 1 << 20)]
    table = tmp_path / "table"
    data.write_extents(table, data.changed_extents(old, new, PAGE))
    assert table.read_text() == f"{(8 << 20) - PAGE} 8192\n{(64 << 20) - PAGE} {PAGE}\n"
    for wrong in (256, 3000, 2 << 20):
        with pytest.raises(ValueError, match="granularity"):
            data.changed_extents(old, new, wrong)


def test_changed_pages_are_counted_and_compressed_as_stated(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    old, new = tmp_path / "old", tmp_path / "new"
    content = random.integers(0, 256, size=600 * PAGE + 100, dtype=np.uint8)
    content[5 * PAGE : 9 * PAGE] = 0
    old.write_bytes(content.tobytes())
    assert data.nonzero_bytes(old) == 596 * PAGE + 100
    content[7 * PAGE] = 1  # a zero page got data
    content[300 * PAGE : 301 * PAGE] = 0  # a page became zero: nothing to carry
    content[-1] ^= 0xFF  # the short last page
    new.write_bytes(content.tobytes())
    assert data.changed_pages_bytes(old, new) == PAGE + 100
    expected = content[7 * PAGE : 8 * PAGE].tobytes() + content[600 * PAGE :].tobytes()
    assert data.changed_pages_zstd(old, new) == len(zstandard.ZstdCompressor(level=3).compress(expected))
    assert data.changed_pages_zstd(old, old) == 0
    # Noise does not shrink: all stays but the page of zeros and a 1, plus the headers of three frames.
    whole = data.changed_pages_zstd(None, new)
    assert 0 < whole - (data.nonzero_bytes(new) - PAGE) < 3 * 256


@pytest.mark.program
def test_plain_apply_rebuilds_the_image_from_its_payload(base: Path, tmp_path: Path) -> None:
    PLAIN_APPLY["prepare"](base, tmp_path / "payload")
    written = PLAIN_APPLY["apply"](tmp_path / "payload", tmp_path / "replica")
    assert written == data.nonzero_bytes(base) == data.extract_nonzero(base, tmp_path / "nonzero")
    assert digest(tmp_path / "replica") == digest(base)


def test_the_huge_disk_is_sparse_and_its_increment_one_page_a_block(tmp_path: Path) -> None:
    disk, before = tmp_path / "huge.raw", tmp_path / "before.raw"
    size = 64 << 30
    assert data.build_huge(disk, 50, 1, size_bytes=size) == 50 * 3 * PAGE
    assert disk.stat().st_size == size and disk.stat().st_blocks * 512 < 4 << 20
    assert data.nonzero_bytes(disk) == 50 * 3 * PAGE
    data.copy_sparse(disk, before)
    data.touch_huge(disk, tmp_path / "extents", extents=50, seed=1)
    table = [tuple(map(int, line.split())) for line in (tmp_path / "extents").read_text().splitlines()]
    changed = data.changed_extents(before, disk, PAGE)
    assert [length for _, length in changed] == [PAGE] * 50
    assert table == data.changed_extents(before, disk, huge.BLOCK_BYTES)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ext4.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ext4.ToolError, match="e2fsprogs"):
        ext4.tool("mke2fs")


@pytest.mark.program
def test_debugfs_complaints_are_errors(image: Path) -> None:
    with pytest.raises(ext4.ToolError, match="debugfs"):
        ext4.run_script(image, ["rm /no/such/file"])


def test_content_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fit"):
        data.build_image(tmp_path / "small.raw", content_mb=40, image_mb=24)
    assert not list(tmp_path.iterdir())


@given(old=st.binary(max_size=5000), donor=st.binary(max_size=5000), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_new_version_differs_and_is_reproducible(old: bytes, donor: bytes, seed: int) -> None:
    new = corpus.new_version(old, donor, seed=seed)
    assert new == corpus.new_version(old, donor, seed=seed)
    assert (new != old) == bool(old)


def test_data_runs_of_a_sparse_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(10 << 20)
        os.pwrite(file.fileno(), b"z" * PAGE, 3 << 20)
    with open(path, "rb") as file:
        assert list(diff.data_runs(file.fileno(), 10 << 20)) == [(3 << 20, PAGE)]
        assert list(diff.data_spans(file.fileno(), 10 << 20)) == [3]
