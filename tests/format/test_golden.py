"""Golden bytes: every stored structure, field by field at its offset, decoded and (where it can be) encoded."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import numpy as np
import pytest
import xxhash
from msgspec import structs

from format import golden
from warmspare.errors import FormatError
from warmspare.format import (
    chunk,
    frame,
    hashtable,
    index_shard,
    mark,
    pack,
    repofile,
    restore_point,
    tablefile,
    varint,
)
from warmspare.format.chunk import Chunk, encode_chunk
from warmspare.format.manifest import HEADER, Header, ManifestReader, ManifestWriter, Totals
from warmspare.format.packlist import PackRef
from warmspare.format.retained import dropped_records, hold, retention
from warmspare.model.block_records import NO_FRAME
from warmspare.model.ids import PackId, PointId, VmId, run_of

FRAMES_AT = 64
A = bytes.fromhex("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
B = bytes.fromhex("3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")


def fields(data: bytes, table: list[tuple[int, str, object]]) -> None:
    """Each (offset, struct type, value), one by one."""
    for offset, kind, value in table:
        assert struct.unpack_from("<" + kind, data, offset)[0] == value, f"offset {offset}"


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16383, "ff7f"),
        (16384, "808001"),
        ((1 << 21) - 1, "ffff7f"),
        (1 << 21, "80808001"),
        (1 << 28, "8080808001"),
        ((1 << 35) - 1, "ffffffff7f"),
    ],
)
def test_varint(value: int, stored: str) -> None:
    assert varint.encode(np.array([value], dtype=np.uint64)).hex() == stored
    assert varint.decode(bytes.fromhex(stored)).tolist() == [value]


@pytest.mark.parametrize(
    ("pages", "stored"),
    [
        ([0], "01"),
        ([5], "0b"),
        ([0, 1], "0002"),
        ([3, 300, 301], "07d00402"),
        ([0, 2, 4], "010303"),
        ([7, 8, 9, 20], "0e0315"),
        (list(range(16, 272)), "208002"),
        ([(1 << 34) - 1], "ffffffff7f"),
    ],
)
def test_layout(pages: list[int], stored: str) -> None:
    assert frame.encode_layout(np.array(pages, dtype=np.uint64)).hex() == stored
    assert frame.decode_layout(bytes.fromhex(stored)).tolist() == pages


def test_raw_frame() -> None:
    data = golden.FRAME_RAW
    fields(
        data,
        [
            (0, "4s", b"WSFR"),
            (4, "B", 0),
            (5, "B", 0),
            (6, "H", 1),
            (8, "I", 15),
            (12, "I", 15),
            (16, "Q", 0x41C24F81CC5F5E77),
            (24, "B", 0x0B),
            (25, "15s", b"short last page"),
        ],
    )
    assert len(data) == 40
    assert xxhash.xxh3_64_intdigest(data[:16] + data[24:]) == 0x41C24F81CC5F5E77
    found = frame.decode(data, "here")
    assert (found.pages.tolist(), found.payload) == ([5], b"short last page")
    assert b"".join(frame.encode(np.array([5], dtype=np.uint64), b"short last page", 3)) == data


def test_zstd_frame() -> None:
    data = golden.FRAME_ZSTD
    fields(
        data,
        [
            (0, "4s", b"WSFR"),
            (4, "B", 1),
            (5, "B", 0),
            (6, "H", 4),
            (8, "I", 28),
            (12, "I", 12288),
            (16, "Q", 0xB52F186262A5CCB3),
            (24, "4s", bytes.fromhex("07d00402")),
            (28, "I", 0xFD2FB528),
        ],
    )
    assert len(data) == 24 + 4 + 28
    found = frame.decode(data, "here")
    assert (found.pages.tolist(), found.payload) == ([3, 300, 301], golden.ZSTD_PAGES)


def test_pack() -> None:
    data = golden.PACK
    fields(
        data,
        [
            (0, "8s", b"WSPACK\r\n"),
            (8, "H", 1),
            (10, "H", 64),
            (12, "I", 0),
            (16, "16s", golden.RUN),
            (32, "I", 7),
            (36, "H", 2),
            (38, "B", 16),
            (39, "B", 12),
            (40, "16s", bytes(16)),
            (56, "Q", 0x5BCFDDA096B24703),
        ],
    )
    header = pack.PackHeader(PackId(run_of(golden.RUN), 7), 2)
    assert header.encode() == data[:64]
    assert pack.PackHeader.decode(data, "here") == header
    found = [(at, f.pages.tolist(), f.payload) for at, f in pack.walk(data, "here")]
    assert found == [
        (64, [5], b"short last page"),
        (64 + len(golden.FRAME_RAW), [3, 300, 301], golden.ZSTD_PAGES),
    ]
    assert data == data[:64] + golden.FRAME_RAW + golden.FRAME_ZSTD


def test_manifest_fields() -> None:
    data = golden.MANIFEST
    fields(
        data,
        [
            (0, "8s", b"WSMANIF\n"),
            (8, "H", 1),
            (10, "H", 69),
            (12, "I", 0),
            (16, "Q", golden.MANIFEST_CAPACITY),
            (24, "16s", golden.RUN),
            (40, "B", 16),
            (41, "B", 12),
            (42, "B", 1),
            (43, "B", 5),
            (44, "20s", bytes(20)),
            (64, "5s", b"disk0"),
        ],
    )
    first = 69  # RECORDS: two records of block 2, one of block 4 without a frame, a run of zeros
    fields(
        data[first:],
        [
            (0, "4s", b"WSMC"),
            (4, "B", 0),
            (5, "B", 0),
            (6, "H", 0),
            (8, "I", 117),
            (12, "I", 117),
            (16, "I", 2),
            (20, "I", 15),
            (24, "Q", 0x5D80C8225DB44D00 | 0x0) if False else (24, "8s", data[first + 24 : first + 32]),
            (32, "I", 2),
            (36, "I", 3),
            (40, "I", 3),
            (44, "I", 1),
            (48, "I", 0),
            (52, "I", 1),
            (56, "I", 64),
            (60, "I", 64),
            (64, "I", 40),
            (68, "I", 200),
            (72, "B", 0),
            (73, "B", 0),
            (74, "B", 2),
            (75, "H", 0),
            (77, "H", 1),
            (79, "H", NO_FRAME),
            (81, "H", 0x0003),
            (83, "H", 0x0010),
            (85, "H", 0),
            (87, "H", 0x8000),
            (89, "H", 0),
            (91, "H", 0x00F0),
            (93, "16s", b"\xa2" * 16),
            (109, "16s", b"\xa2" * 16),
            (125, "16s", b"\xa4" * 16),
            (141, "I", 8),
            (145, "I", 8),
        ],
    )
    second = first + 32 + 117
    fields(
        data[second:],
        [
            (0, "4s", b"WSMC"),
            (4, "B", 0),
            (16, "I", 32),
            (20, "I", 32),
            (32, "I", 1),
            (36, "I", 1),
            (40, "I", 1),
            (44, "I", 0),
            (48, "I", 0),
            (52, "I", 104),
            (56, "I", 56),
            (60, "B", 0),
            (61, "H", 0),
            (63, "H", 3),
            (65, "H", 0),
            (67, "16s", b"\xb2" * 16),
        ],
    )
    packs = second + 32 + 51
    fields(
        data[packs:],
        [
            (0, "4s", b"WSMC"),
            (4, "B", 1),
            (5, "B", 0),
            (8, "I", 128),
            (12, "I", 128),
            (16, "I", 0),
            (20, "I", 0),
            (32, "16s", golden.RUN),
            (48, "I", 7),
            (52, "I", 0x01020304),
            (56, "Q", 160),
            (64, "32s", A),
            (96, "16s", golden.RUN),
            (112, "I", 8),
            (116, "I", 0xFFFEFDFC),
            (120, "Q", 70000),
            (128, "32s", B),
        ],
    )
    end = packs + 32 + 128
    fields(
        data[end:],
        [
            (0, "4s", b"WSMC"),
            (4, "B", 2),
            (5, "B", 0),
            (8, "I", 40),
            (12, "I", 40),
            (32, "Q", 4),
            (40, "Q", 5),
            (48, "Q", 5),
            (56, "Q", 8),
            (64, "Q", 3),
        ],
    )
    assert end + 32 + 40 == len(data)
    for at, stop in [(first, second), (second, packs), (packs, end), (end, len(data))]:
        stated = int.from_bytes(data[at + 24 : at + 32], "little")
        assert stated == xxhash.xxh3_64_intdigest(data[at : at + 24] + data[at + 32 : stop])
    assert (HEADER.size, chunk.HEADER.size) == (64, 32)


PACKS = [
    PackRef(PackId(run_of(golden.RUN), 7), 160, 0x01020304, A),
    PackRef(PackId(run_of(golden.RUN), 8), 70000, 0xFFFEFDFC, B),
]


def test_manifest_values() -> None:
    found = ManifestReader(reader(golden.MANIFEST), len(golden.MANIFEST), "here")
    assert found.header == Header("disk0", golden.MANIFEST_CAPACITY, run_of(golden.RUN))
    assert list(found.packs) == PACKS
    assert found.totals == Totals(4, 5, 5, 8, 3)
    first, second = found.chunks()
    assert first.records.block.tolist() == [2, 2, 4]
    assert first.records.frame.tolist() == [0, 1, NO_FRAME]
    assert first.records.carried.tolist() == [3, 0x10, 0]
    assert first.records.zero.tolist() == [0x8000, 0, 0xF0]
    assert [bytes(h)[:1] for h in first.records.hashes] == [b"\xa2", b"\xa2", b"\xa4"]
    assert (first.frames.pack.tolist(), first.frames.offset.tolist()) == ([0, 1], [64, 64])
    assert first.frames.size.tolist() == [40, 200]
    assert (first.zeros.start.tolist(), first.zeros.count.tolist()) == ([8], [8])
    assert (first.first_block, first.last_block) == (2, 15)
    last = second.records
    assert (last.block.tolist(), last.carried.tolist(), last.frame.tolist()) == ([32], [3], [0])
    assert [c.first_block for c in found.chunks(16, 33)] == [32]


def test_the_writer_makes_the_golden_manifest() -> None:
    """Byte for byte where nothing was compressed, by value otherwise: zstd's output is not ours to fix."""
    found = ManifestReader(reader(golden.MANIFEST), len(golden.MANIFEST), "here")
    chunks: list[Chunk] = list(found.chunks())
    pieces: list[bytes] = []
    writer = ManifestWriter(found.header, pieces.append)
    for one in chunks:
        writer.add(one)
    writer.finish(PACKS)
    assert pieces[0] == golden.MANIFEST[:69]
    assert writer.totals == found.totals
    whole = b"".join(pieces)
    again = ManifestReader(reader(whole), len(whole), "here")
    assert [encode_chunk(c) for c in again.chunks()] == [encode_chunk(c) for c in chunks]
    assert (list(again.packs), again.totals, again.header) == (PACKS, found.totals, found.header)


def test_compressed_end_chunk() -> None:
    data = golden.MANIFEST[: -(32 + 40)] + golden.END_ZSTD
    fields(
        golden.END_ZSTD,
        [
            (0, "4s", b"WSMC"),
            (4, "B", 2),
            (5, "B", 1),
            (8, "I", 34),
            (12, "I", 40),
            (32, "I", 0xFD2FB528),
        ],
    )
    assert ManifestReader(reader(data), len(data), "here").totals == Totals(4, 5, 5, 8, 3)


def test_checkpoint() -> None:
    data = golden.CHECKPOINT
    fields(
        data,
        [
            (0, "8s", b"WSTABLE\n"),
            (8, "H", 1),
            (10, "H", 32),
            (12, "I", 0),
            (16, "Q", golden.TABLE_CAPACITY),
            (24, "Q", 0),
            (32, "I", 1),
            (36, "I", 30),
            (40, "B", 1),
            (41, "B", 0),
            (42, "H", 0),
            (52, "I", 0xFD2FB528),
            (82, "I", 0),
            (86, "I", 0),
            (90, "B", 0),
        ],
    )
    leaf = bytearray(4096)
    leaf[:16], leaf[64 * 16 : 65 * 16] = b"\xc1" * 16, b"\xc2" * 16
    found = list(tablefile.decode(reader(data), len(data), golden.TABLE_CAPACITY, "here"))
    assert found == [(1, bytes(leaf))]
    pieces = list(tablefile.encode(golden.TABLE_CAPACITY, found))
    assert (pieces[0], pieces[2]) == (data[:32], data[82:])
    again = b"".join(pieces)
    assert list(tablefile.decode(reader(again), len(again), golden.TABLE_CAPACITY, "here")) == found


def test_restore_point() -> None:
    assert restore_point.decode(golden.POINT, "here") == golden.POINT_VALUE
    assert restore_point.encode(golden.POINT_VALUE) == golden.POINT
    assert restore_point.identity(golden.POINT) == golden.POINT_SHA256
    assert PointId(12, golden.POINT_SHA256).label == "12-" + golden.POINT_SHA256[:8]
    assert golden.POINT_VALUE.request_id is None


def test_restore_point_of_a_request() -> None:
    found = restore_point.decode(golden.POINT_OF_REQUEST, "here")
    assert found.request_id == golden.REQUEST
    assert found.hardware == golden.POINT_VALUE.hardware | {"request_id": golden.REQUEST}
    assert restore_point.encode(found) == golden.POINT_OF_REQUEST
    assert restore_point.identity(golden.POINT_OF_REQUEST) == golden.POINT_OF_REQUEST_SHA256
    longest = golden.POINT_OF_REQUEST.replace(golden.REQUEST.encode(), b"~" * 200)
    assert restore_point.decode(longest, "here").request_id == "~" * 200
    for wrong in (b"", b" ", b" a", b"a ", b"~" * 201, b"a\\nb", b"a\\n", b"\\u202e", b"\xc3\xbc", b"\\u0000"):
        with pytest.raises(FormatError, match="request_id"):
            restore_point.decode(golden.POINT_OF_REQUEST.replace(golden.REQUEST.encode(), wrong), "here")
    for wrong in (b"7", b"[]", b"{}", b"true"):
        with pytest.raises(FormatError, match="request_id"):
            restore_point.decode(golden.POINT_OF_REQUEST.replace(b'"%s"' % golden.REQUEST.encode(), wrong), "here")


def test_repository_record() -> None:
    assert repofile.decode(golden.REPOSITORY, "here") == golden.REPOSITORY_VALUE
    assert repofile.encode(golden.REPOSITORY_VALUE) == golden.REPOSITORY


def test_index() -> None:
    [name] = [one.name for one in golden.INDEX_VALUE.vms]
    number, repository = golden.INDEX_SHARD, golden.INDEX_VALUE.repository
    assert hashlib.sha256(name.encode()).hexdigest().startswith(f"{number:02x}")
    assert index_shard.decode(golden.INDEX, number, repository, "here") == golden.INDEX_VALUE
    assert index_shard.encode(golden.INDEX_VALUE) == golden.INDEX
    whole = index_shard.decode_whole(golden.INDEX_WHOLE, repository, "here")
    assert index_shard.encode(whole) == golden.INDEX_WHOLE
    assert index_shard.shards_of(VmId("db"), "web") == {index_shard.shard_of("db"), index_shard.shard_of("web")}
    assert index_shard.shards_of(golden.INDEX_VALUE.vms[0].id, name) == {number}


def test_mark() -> None:
    assert mark.decode(golden.MARK, "here") == golden.MARK_VALUE
    assert mark.encode(golden.MARK_VALUE) == golden.MARK


def test_hold() -> None:
    assert hold.decode(golden.HOLD, "here") == golden.HOLD_VALUE
    assert hold.encode(golden.HOLD_VALUE) == golden.HOLD


def test_retention_record() -> None:
    assert retention.decode(golden.RETENTION, "here") == golden.RETENTION_VALUE
    assert retention.encode(golden.RETENTION_VALUE) == golden.RETENTION
    [fold] = golden.RETENTION_VALUE.folds
    assert [number for number in range(5, 14) if golden.RETENTION_VALUE.dropped(number)] == [8, 9, 10]
    assert golden.RETENTION_VALUE.covering(7) == golden.RETENTION_VALUE.covering(10) == fold
    assert golden.RETENTION_VALUE.covering(6) is golden.RETENTION_VALUE.covering(11) is None


_FOLD = golden.RETENTION_VALUE.folds[0]
_PART, _DISK = _FOLD.descent[0], _FOLD.disks[0]


@pytest.mark.parametrize(
    ("fields", "fold", "why"),
    [
        ({"previous": None}, {}, "only the first"),
        ({"generation": 1}, {}, "only the first"),
        ({"created": "2026-02-30T00:00:00Z"}, {}, "calendar"),
        ({}, {"since": "2026-02-30T00:00:00Z"}, "calendar"),
        ({}, {"dropped": 2}, "another number"),
        ({}, {"target": PointId(8, "1" * 64), "dropped": 0}, "another number"),
        ({}, {"base": None, "dropped": 10}, "nothing known"),
        ({}, {"disks": []}, "no disk"),
        ({}, {"disks": [_DISK, _DISK]}, "twice"),
        ({}, {"descent": []}, "stands for"),
        ({}, {"descent": [structs.replace(_PART, bytes=0)]}, "malformed reference"),
        ({}, {"descent": [structs.replace(_PART, key="../x")]}, "malformed reference"),
        ({}, {"descent": [structs.replace(_PART, bytes=dropped_records.MAX_STORED_BYTES + 1)]}, "longer"),
        ({"folds": [_FOLD, _FOLD]}, {}, "ascend"),
        ({"flags": 8}, {}, "feature"),
    ],
)
def test_retention_records_that_break_the_rules(fields: dict[str, object], fold: dict[str, object], why: str) -> None:
    record = golden.RETENTION_VALUE
    if fold:
        record = structs.replace(record, folds=[structs.replace(_FOLD, **fold)])
    with pytest.raises(FormatError, match=why):
        retention.decode(retention.encode(structs.replace(record, **fields)), "here")


def test_descent() -> None:
    expected = (golden.DESCENT_FIRST, golden.DESCENT_RECORDS)
    assert dropped_records.decode(golden.DESCENT, golden.DESCENT_BEFORE, "here") == expected
    made = dropped_records.encode(*expected)
    assert made[:28] == golden.DESCENT[:28]
    assert dropped_records.decode(made, golden.DESCENT_BEFORE, "here") == expected
    fields(
        golden.DESCENT, [(0, "8s", b"WSDESC\r\n"), (8, "H", 1), (10, "H", 40), (12, "I", 4), (16, "Q", 8), (24, "I", 3)]
    )
    other = dropped_records.decode(golden.DESCENT, "8" * 64, "here")[1]
    assert all(one != right for one, right in zip(other[:2], golden.DESCENT_RECORDS, strict=False))


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_a_descent_is_cut_into_parts(size: int) -> None:
    sizes = [size + number % 7 for number in range(2 * dropped_records.PART_BYTES // size)]
    parts = list(dropped_records.parts(sizes))
    assert [number for part in parts for number in range(*part.indices(len(sizes)))] == list(range(len(sizes)))
    assert all(sum(sizes[part]) <= dropped_records.PART_BYTES for part in parts) and len(parts) > 1
    large = [dropped_records.PART_BYTES + 1, 5, dropped_records.PART_BYTES + 1]
    assert list(dropped_records.parts(large)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert not list(dropped_records.parts([]))


def test_hash_table_root() -> None:
    empty = "23494dc9c0c9e815d779ca195634d87eff10803d8b455432ce4a9b784fa9cf70"
    assert hashtable.root_of(1 << 20, {}) == empty == hashtable.root(1 << 20, bytes(32))
    leaf = bytearray(4096)
    leaf[:16], leaf[64 * 16 : 65 * 16] = b"\xc1" * 16, b"\xc2" * 16
    top = "b9d74cdce85dba76c69d3ac5832d486e21bc93036a65688919e950ac1b8e2b80"
    assert hashtable.digest(1, bytes(leaf)).hex() == top
    assert hashtable.digest(1, bytes(4096)) == hashtable.digest(4, bytes(8192)) == bytes(32)
    assert hashtable.root_of(golden.TABLE_CAPACITY, {256: b"\xc1" * 16, 320: b"\xc2" * 16}) == (
        "c0326432e631f12e34f2f4284b60453d01bbd4657bb67261a2bd33c7cc956e5b"
    )
    assert hashtable.root_of(64 << 40, {(1 << 30) - 1: b"\xd1" * 16}) == (
        "572bd019bf7b2ab75b51ac4825cec4059bd0a254895ac2916f361723f0590f76"
    )
