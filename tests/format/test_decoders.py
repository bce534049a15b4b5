"""Every decoder: what was encoded comes back, and damaged bytes give a FormatError and nothing else.

What a checksum covers must notice every flipped bit. The manifest's and the checkpoint's header have none of their
own, for the SHA-256 in the restore point covers them before they are decoded; there only the kind of failure is held.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from format import golden
from warmspare.errors import FormatError
from warmspare.format import (
    flags,
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
from warmspare.format.chunk import PACKS, Chunk, ChunkFrames, decode_chunk, seal
from warmspare.format.index_shard import IndexEntry, IndexShard
from warmspare.format.manifest import HEADER, MAX_PACKS_CHUNK, Header, ManifestReader, ManifestWriter
from warmspare.format.packlist import PACK_ROW, PackRef
from warmspare.format.retained import dropped_records, hold, retention
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.ids import PackId, VmId, run_of
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES, block_count
from warmspare.state.local_table import HashTable

W = "here"
ROUNDS = int(os.environ.get("WARMSPARE_FUZZ_ROUNDS", "20000"))


def read_at(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def pages_of(draw: st.DrawFn, most: int = 256) -> np.ndarray:
    """1 to `most` ascending page numbers, in runs and alone, anywhere on the largest disk."""
    start = draw(st.integers(0, 2**33))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 17, 5000]), min_size=0, max_size=most - 1))
    return np.cumsum(np.array([start, *steps], dtype=np.uint64))


@st.composite
def some_pages(draw: st.DrawFn) -> np.ndarray:
    return pages_of(draw)


@given(st.lists(st.integers(0, 2**35 - 1), max_size=200))
def test_varints(values: list[int]) -> None:
    data = varint.encode(np.array(values, dtype=np.uint64))
    assert varint.decode(np.frombuffer(data, dtype=np.uint8), W).tolist() == values


@given(some_pages())
def test_layouts(pages: np.ndarray) -> None:
    assert frame.decode_layout(np.frombuffer(frame.encode_layout(pages), dtype=np.uint8), W).tolist() == pages.tolist()


@settings(max_examples=60, deadline=None)
@given(some_pages(), st.integers(0, 2**32), st.booleans(), st.integers(0, PAGE_BYTES - 1), st.integers(1, 9))
def test_frames(pages: np.ndarray, seed: int, compressible: bool, cut: int, level: int) -> None:
    rng = random.Random(seed)
    size = pages.size * PAGE_BYTES - cut
    raw = (b"%016x" % rng.getrandbits(64) * (size // 16 + 1))[:size] if compressible else rng.randbytes(size)
    data = b"".join(bytes(b) for b in frame.encode(pages, raw, level))
    found = frame.decode(data, W)
    assert found.pages.tolist() == pages.tolist() and found.payload == raw
    assert frame.frame_bytes(data, W) == len(data) <= frame.MAX_FRAME_BYTES
    assert compressible or len(data) < size + 24 + frame.MAX_LAYOUT_BYTES


def make_chunks(rng: random.Random, blocks: int, packs: int) -> list[Chunk]:
    """Random chunks that keep the rules: several records of a block, records of no page, runs of zeros."""
    chunks: list[Chunk] = []
    at = rng.randrange(50)
    while at < blocks - 60 and len(chunks) < 4:
        rows: list[tuple[int, int, int, int, bytes]] = []
        zeros: list[tuple[int, int]] = []
        frames = rng.randrange(1, 5)
        for _ in range(rng.randrange(1, 40)):
            if at >= blocks - 60:
                break
            if rng.random() < 0.2:
                count = rng.randrange(1, 9)
                zeros.append((at, count))
                at += count
            else:
                digest, left = rng.randbytes(16), rng.randrange(1, 1 << 16)
                for _ in range(rng.choice([1, 1, 1, 2, 3])):
                    carried = left & rng.getrandbits(16)
                    zero = left & ~carried & rng.getrandbits(16)
                    left &= ~(carried | zero)
                    if carried | zero:
                        rows.append((at, rng.randrange(frames) if carried else NO_FRAME, carried, zero, digest))
                at += 1
            at += rng.choice([0, 0, 1, 700])
        if not rows and not zeros:
            continue
        chunks.append(
            Chunk(
                ChunkFrames(
                    np.array([rng.randrange(packs) for _ in range(frames)], dtype=np.uint32),
                    np.array([rng.getrandbits(26) for _ in range(frames)], dtype=np.uint32),
                    np.array([rng.randrange(30, frame.MAX_FRAME_BYTES) for _ in range(frames)], dtype=np.uint32),
                ),
                PlacedRecords(
                    np.array([r[0] for r in rows], dtype=np.uint32),
                    np.array([r[2] for r in rows], dtype=np.uint16),
                    np.array([r[3] for r in rows], dtype=np.uint16),
                    np.frombuffer(b"".join(r[4] for r in rows), dtype=np.uint8).reshape(-1, 16),
                    np.array([r[1] for r in rows], dtype=np.uint16),
                ),
                Runs(
                    np.array([z[0] for z in zeros], dtype=np.uint32), np.array([z[1] for z in zeros], dtype=np.uint32)
                ),
            )
        )
    return chunks


RUN = run_of(bytes(16))


def columns(chunk: Chunk) -> list[list[object]]:
    frames, records, zeros = chunk.frames, chunk.records, chunk.zeros
    places = [frames.pack, frames.offset, frames.size, zeros.start, zeros.count]
    rows = [records.block, records.frame, records.carried, records.zero, records.hashes]
    return [column.tolist() for column in (*places, *rows)]


def make_manifest(seed: int, *, capacity: int = 5000 * BLOCK_BYTES + 777) -> tuple[bytes, list[Chunk], list[PackRef]]:
    rng = random.Random(seed)
    refs = [
        PackRef(PackId(run_of(rng.randbytes(16)), n), rng.getrandbits(30), rng.getrandbits(32), rng.randbytes(32))
        for n in range(3)
    ]
    chunks = make_chunks(rng, block_count(capacity), len(refs))
    out = bytearray()
    writer = ManifestWriter(Header("disk ä", capacity, run_of(bytes(range(16)))), out.extend)
    for chunk in chunks:
        writer.add(chunk)
    writer.finish(refs)
    return bytes(out), chunks, refs


@pytest.mark.parametrize("seed", range(40))
def test_manifests(seed: int) -> None:
    data, chunks, refs = make_manifest(seed)
    reader = ManifestReader(read_at(data), len(data), W)
    assert reader.header == Header("disk ä", 5000 * BLOCK_BYTES + 777, run_of(bytes(range(16))))
    assert list(reader.packs) == refs
    found = list(reader.chunks())
    assert len(found) == len(chunks)
    for one, other in zip(found, chunks, strict=True):
        assert columns(one) == columns(other)
    assert reader.totals.records == sum(len(c.records) for c in chunks)
    assert reader.totals.zero_blocks == sum(int(c.zeros.count.sum()) for c in chunks)
    for first, stop in ((0, 1), (100, 300), (4990, 5001)):
        some = [c.first_block for c in reader.chunks(first, stop)]
        assert some == [c.first_block for c in chunks if c.last_block >= first and c.first_block < stop]


def test_a_million_packs_take_64_bytes_each() -> None:
    """A short manifest may name them: its pack list shrinks to nothing."""
    count = 200_000
    rows = np.zeros(count, dtype=PACK_ROW)
    rows["number"], rows["bytes"] = np.arange(count) // 2, 64 << 20
    data = bytearray()
    writer = ManifestWriter(Header("d", 64 << 40, RUN), data.extend)
    for at in range(0, count, MAX_PACKS_CHUNK):
        writer._put(seal(PACKS, rows[at : at + MAX_PACKS_CHUNK].tobytes()))
    writer.finish([])
    assert len(data) < 1 << 20
    tracemalloc.start()
    try:
        packs = ManifestReader(read_at(bytes(data)), len(data), W).packs
        keys = packs.seen(lambda pack: f"{pack.id.run}/{pack.id.number}" * 10)
        assert keys[count - 1] == f"{'0' * 32}/{count // 2 - 1}" * 10 and packs.total_bytes == count * (64 << 20)
        assert tracemalloc.get_traced_memory()[1] < count * 150
    finally:
        tracemalloc.stop()
    assert len(packs) == count and len(packs.once()) == count // 2 and packs.once()[7].id.number == 7


def test_metadata_is_at_most_28_bytes_a_record_and_0_3_percent_of_a_full_disk() -> None:
    sparse, full = bytearray(), bytearray()
    rng = np.random.default_rng(1)
    # The worst: every record in a frame of its own would be 34; a frame of 1 MiB has at least 16 blocks, and one of
    # scattered pages has up to 256.
    block = np.cumsum(rng.integers(1, 20000, 30000)).astype(np.uint32)
    n = block.size
    worst = Chunk(
        ChunkFrames.of([(0, 0, 99)] * (n // 16)),
        PlacedRecords(
            block,
            np.full(n, 5, dtype=np.uint16),
            np.zeros(n, dtype=np.uint16),
            rng.integers(0, 255, (n, 16)).astype(np.uint8),
            (np.arange(n) // 16).clip(0, n // 16 - 1).astype(np.uint16),
        ),
        Runs.none(),
    )
    writer = ManifestWriter(Header("d", 64 << 40, RUN), sparse.extend)
    writer.add(worst)
    writer.finish([PackRef(PackId(RUN, 0), 1 << 26, 0, bytes(32))])
    assert writer.raw_bytes <= 28 * n
    every, full_masks = np.arange(n, dtype=np.uint32), np.full(n, 0xFFFF, dtype=np.uint16)
    dense = replace(worst, records=replace(worst.records, block=every, carried=full_masks))
    writer = ManifestWriter(Header("d", n * BLOCK_BYTES, RUN), full.extend)
    writer.add(dense)
    packs = n * BLOCK_BYTES // (64 << 20) + 1
    writer.finish([PackRef(PackId(RUN, i), 1 << 26, 0, bytes(32)) for i in range(packs)])
    assert writer.raw_bytes <= 0.003 * n * BLOCK_BYTES and len(full) <= writer.raw_bytes


@pytest.mark.parametrize("seed", range(10))
def test_checkpoints(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    capacity = 3000 * 256 * BLOCK_BYTES
    leaves = [(i, rng.randbytes(4096)) for i in sorted(rng.sample(range(3000), rng.choice([0, 1, 64, 65, 200])))]
    data = b"".join(tablefile.encode(capacity, leaves))
    assert list(tablefile.decode(read_at(data), len(data), capacity, W)) == leaves


def test_the_root_of_a_table_is_that_of_its_definition(tmp_path: Path) -> None:
    rng = random.Random(3)
    capacity = 70000 * BLOCK_BYTES
    entries = {rng.randrange(70000): rng.randbytes(16) for _ in range(300)}
    with HashTable(tmp_path / "table") as table:
        blocks = sorted(entries)
        table.stage(
            np.array(blocks, dtype=np.uint32),
            np.frombuffer(b"".join(entries[b] for b in blocks), dtype=np.uint8).reshape(-1, 16),
        )
        assert table.staged_root(capacity) == hashtable.root_of(capacity, entries)


# damage


def good_frame(seed: int = 1) -> bytes:
    rng = random.Random(seed)
    pages = np.array([5, 6, 7, 100, 2**33], dtype=np.uint64)
    raw = b"".join((b"%04d" % rng.randrange(10000)) * 1024 for _ in range(5))
    return b"".join(bytes(b) for b in frame.encode(pages, raw, 3))


def good_pack() -> bytes:
    return pack.PackHeader(PackId(run_of(bytes(range(16))), 3), 1).encode() + good_frame(1) + good_frame(2)


def good_point() -> bytes:
    ref = restore_point.ObjectRef("vms/v/manifests/r/000.manifest", 10, "0" * 64, 5)
    disk = restore_point.Disk("d", "d.raw", 5 << 30, "a" * 64, ref, 7)
    made = "2026-01-02T03:04:05Z"
    point = restore_point.RestorePoint(1, 0, "v", "v", 1, None, "b" * 32, made, "x", [disk], 1, 2, 3)
    return restore_point.encode(point)


def good_checkpoint() -> bytes:
    rng = random.Random(5)
    return b"".join(tablefile.encode(5 << 30, [(3, rng.randbytes(4096)), (9, bytes(4000) + rng.randbytes(96))]))


def walk_manifest(data: bytes) -> object:
    reader = ManifestReader(read_at(data), len(data), W)
    rows = [chunk.records for chunk in reader.chunks()]
    return reader.header, reader.packs, reader.totals, [part.block.tobytes() + part.hashes.tobytes() for part in rows]


DECODERS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], object], int]] = {
    # name: how to make one, how to decode it, how many bytes at its head have no checksum of their own
    "frame": (good_frame, lambda d: frame.decode(d, W).payload, 0),
    "pack": (good_pack, lambda d: [f.payload for _, f in pack.walk(d, W)], 0),
    "manifest": (lambda: make_manifest(7)[0], walk_manifest, HEADER.size + len("disk ä".encode())),
    "checkpoint": (good_checkpoint, lambda d: list(tablefile.decode(read_at(d), len(d), 5 << 30, W)), 32),
    "point": (good_point, lambda d: restore_point.decode(d, W), 1 << 30),
    "point of a request": (lambda: golden.POINT_OF_REQUEST, lambda d: restore_point.decode(d, W), 1 << 30),
    "repository": (
        lambda: repofile.encode(repofile.RepositoryRecord(1, 0, "c" * 32, "2026")),
        lambda d: repofile.decode(d, W),
        1 << 30,
    ),
    "index": (
        lambda: golden.INDEX,
        lambda d: index_shard.decode(d, golden.INDEX_SHARD, golden.INDEX_VALUE.repository, W),
        1 << 30,
    ),
    "index mark": (
        lambda: golden.INDEX_WHOLE,
        lambda d: index_shard.decode_whole(d, golden.INDEX_VALUE.repository, W),
        1 << 30,
    ),
    "hold": (lambda: golden.HOLD, lambda d: hold.decode(d, W), 1 << 30),
    "retention": (lambda: golden.RETENTION, lambda d: retention.decode(d, W), 1 << 30),
    "descent": (lambda: golden.DESCENT, lambda d: dropped_records.decode(d, golden.DESCENT_BEFORE, W), 0),
    "mark": (lambda: golden.MARK, lambda d: mark.decode(d, W), 1 << 30),
    "varint": (
        lambda: varint.encode(np.arange(0, 2**35, 2**30, dtype=np.uint64)),
        lambda d: varint.decode(np.frombuffer(d, dtype=np.uint8), W).tolist(),
        1 << 30,
    ),
    "layout": (
        lambda: frame.encode_layout(np.array([1, 2, 9, 2**34 - 1], dtype=np.uint64)),
        lambda d: frame.decode_layout(np.frombuffer(d, dtype=np.uint8), W).tolist(),
        1 << 30,
    ),
}


def attempt(decode: Callable[[bytes], object], data: bytes) -> object:
    """What it decodes to, or the FormatError; anything else fails the test."""
    try:
        return decode(data)
    except FormatError as error:
        return error


@pytest.mark.parametrize("name", list(DECODERS))
def test_every_flipped_bit(name: str) -> None:
    make, decode, bare = DECODERS[name]
    good = make()
    right = decode(good)
    places = range(len(good)) if len(good) < 3000 else sorted(random.Random(1).sample(range(len(good)), 1500))
    for at in places:
        data = bytearray(good)
        data[at] ^= 1 << (at % 8)
        assert bytes(data) != good
        found = attempt(decode, bytes(data))
        assert at < bare or isinstance(found, FormatError), f"byte {at} of a {name} changed unseen: {found == right}"


@pytest.mark.parametrize("name", list(DECODERS))
def test_every_truncation_and_what_is_added(name: str) -> None:
    make, decode, _ = DECODERS[name]
    good = make()
    right = decode(good)
    if name in ("point", "point of a request", "repository", "mark", "hold", "retention", "index", "index mark"):
        good = good.rstrip()  # JSON is the same without its last newline; as an identity it is not
    places = range(len(good)) if len(good) < 3000 else sorted(random.Random(2).sample(range(len(good)), 1000))
    for at in places:
        found = attempt(decode, good[:at])
        if name not in ("varint", "layout") and not (name == "pack" and not isinstance(found, FormatError)):
            assert isinstance(found, FormatError), f"a {name} of {at} of {len(good)} bytes was taken"
        assert found != right
    if name != "varint":
        longer = attempt(decode, good + b"\x05")
        assert isinstance(longer, FormatError) or longer != right


@pytest.mark.parametrize("name", list(DECODERS))
@given(data=st.binary(max_size=300))
def test_random_bytes(name: str, data: bytes) -> None:
    make, decode, _ = DECODERS[name]
    found = attempt(decode, data)
    assert isinstance(found, FormatError) or name in ("varint", "layout")
    magic = make()[:8]
    assert isinstance(attempt(decode, magic + data), FormatError) or name in ("varint", "layout")


def mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out))
        kind = rng.randrange(4)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.randrange(1, 20)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            size = rng.choice([2, 4, 8])
            value = rng.choice([0, 1, 2**15, 2**31, 2**63, 2 ** (8 * size) - 1])
            out[at : at + size] = value.to_bytes(16, "little")[:size]
        if not out:
            break
    return bytes(out)


def reseal_manifest(data: bytearray) -> bytes:
    """Give every chunk its checksum anew, so that what lies behind the checksum is reached."""
    at = HEADER.size + data[43]
    while at + 32 <= len(data) and data[at : at + 4] == b"WSMC":
        stored = int.from_bytes(data[at + 8 : at + 12], "little")
        summed = xxhash.xxh3_64(bytes(data[at : at + 24]))
        summed.update(bytes(data[at + 32 : at + 32 + stored]))
        data[at + 24 : at + 32] = summed.intdigest().to_bytes(8, "little")
        at += 32 + stored
    return bytes(data)


def raw_chunk(rng: random.Random) -> Iterator[tuple[bytes, int, int]]:
    """The payload of a good chunk of records, with its first and last block."""
    for chunk in make_chunks(rng, 5001, 3):
        deltas = np.diff(chunk.records.block.astype(np.uint64), prepend=np.uint64(chunk.first_block))
        column = varint.encode(deltas)
        counts = np.array([len(chunk.frames), len(chunk.records), len(column), len(chunk.zeros)], dtype="<u4")
        yield (
            b"".join(
                (
                    counts.tobytes(),
                    chunk.frames.pack.tobytes(),
                    chunk.frames.offset.tobytes(),
                    chunk.frames.size.tobytes(),
                    column,
                    chunk.records.frame.tobytes(),
                    chunk.records.carried.tobytes(),
                    chunk.records.zero.tobytes(),
                    chunk.records.hashes.tobytes(),
                    chunk.zeros.start.tobytes(),
                    chunk.zeros.count.tobytes(),
                )
            ),
            chunk.first_block,
            chunk.last_block,
        )


def fuzz_chunks(rounds: int, seed: int) -> tuple[int, int]:
    """Mutated payloads behind the checksum: refused, or a chunk that keeps every rule."""
    rng = random.Random(seed)
    refused = taken = 0
    payloads = list(raw_chunk(rng))
    for _ in range(rounds):
        raw, first, last = rng.choice(payloads)
        data = mutate(raw, rng)
        try:
            chunk = decode_chunk(data, first, last, 5000 * BLOCK_BYTES + 777, 3, W)
        except FormatError:
            refused += 1
            continue
        taken += 1
        rows = chunk.records
        assert not np.any(rows.carried & rows.zero) and np.all(rows.carried | rows.zero)
        assert np.all(rows.block <= 5000) and np.all(np.diff(rows.block.astype(np.int64)) >= 0)
        assert np.all((rows.frame == NO_FRAME) == (rows.carried == 0))
        assert np.all(chunk.frames.pack < 3)
    return refused, taken


def test_fuzzed_chunks_behind_the_checksum() -> None:
    refused, taken = fuzz_chunks(3000, 1)
    assert refused > 300 and taken > 100


def test_mutated_objects() -> None:
    rng = random.Random(9)
    for name, (make, decode, _) in DECODERS.items():
        good = make()
        for _ in range(300):
            attempt(decode, mutate(good, rng))
        if name == "manifest":
            for _ in range(500):
                attempt(decode, reseal_manifest(bytearray(mutate(good, rng)).ljust(64, b"\0")))


@pytest.mark.slow
def test_a_long_fuzz() -> None:
    rng = random.Random()
    seed = rng.getrandbits(64)
    print(f"seed {seed}")
    rng.seed(seed)
    print("chunks refused, taken:", fuzz_chunks(ROUNDS, seed))
    for _ in range(ROUNDS):
        make, decode, _bare = DECODERS[rng.choice(list(DECODERS))]
        attempt(decode, mutate(make(), rng))


# what would hurt a reader that trusts numbers


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=600)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_TEXTS, _TEXTS, st.integers(1, 9_999_999_999), st.integers(0, 2**63 - 1)), max_size=8))
def test_index_shards(rows: list[tuple[str, str, int, int]]) -> None:
    """Each VM comes back from each shard that it belongs to, at its last word, and stands in no other."""
    shards: dict[int, IndexShard] = {}
    said: dict[str, IndexEntry] = {}
    for vm, name, sequence, size in rows:
        entry = IndexEntry(VmId(vm), name, sequence, "5" * 64, "2026-01-02T03:04:05Z", 1, size, 0)
        for number in index_shard.shards_of(VmId(vm), said[vm].name) if vm in said else ():
            shards[number] = shards[number].without(VmId(vm))
        said[vm] = entry
        for number in index_shard.shards_of(VmId(vm), name):
            shards[number] = shards.get(number, IndexShard(1, 0, "c" * 32, True)).having(entry)
    for number, shard in shards.items():
        assert index_shard.decode(index_shard.encode(shard), number, "c" * 32, W) == shard and shard.whole
        for one in shard.vms:
            belongs = index_shard.shards_of(one.id, one.name)
            assert one == said[one.id] and number in belongs
            elsewhere = next(other for other in range(256) if other not in belongs)
            with pytest.raises(FormatError):
                index_shard.decode(index_shard.encode(shard), elsewhere, "c" * 32, W)
    for one in said.values():
        assert all(shards[number].entry(one.id) == one for number in index_shard.shards_of(one.id, one.name))


@pytest.mark.parametrize("spoil", ["twice", "order", "many", "long"])
def test_index_shards_that_break_the_rules(spoil: str) -> None:
    [entry] = golden.INDEX_VALUE.vms
    vms = {
        "twice": [entry, entry],
        "order": [entry, msgspec.structs.replace(entry, id=VmId("50120000-0000-4000-8000-000000000001"))],
        "many": [msgspec.structs.replace(entry, id=VmId(f"50120000-0000-4000-8000-{n:012x}")) for n in range(1001)],
        "long": [msgspec.structs.replace(entry, id=VmId("x" * 513))],
    }[spoil]
    data = index_shard.encode(msgspec.structs.replace(golden.INDEX_VALUE, vms=vms))
    with pytest.raises(index_shard.DamagedShardError):
        index_shard.decode(data, golden.INDEX_SHARD, golden.INDEX_VALUE.repository, W)


@pytest.mark.parametrize(
    "runs", [[(3, 1), (2, 1)], [(0, 0)], [(5, 2), (6, 1)], [(1 << 30, 1)], [(0, (1 << 30) + 1)], [(-1, 2)]]
)
def test_marks_that_do_not_add_up(runs: list[tuple[int, int]]) -> None:
    with pytest.raises(FormatError, match="do not ascend"):
        mark.decode(mark.encode(msgspec.structs.replace(golden.MARK_VALUE, disks={"d": runs})), W)


def test_a_payload_that_would_swell_is_never_allocated() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200 << 20))
    unsized = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(bytes(50 << 20))
    for payload in (bomb, unsized):
        layout = frame.encode_layout(np.array([0], dtype=np.uint64))
        head = frame.HEADER.pack(frame.MAGIC, frame.ZSTD, 0, len(layout), len(payload), 4096, 0)[: frame.SUMMED]
        digest = xxhash.xxh3_64(head + layout + payload).intdigest()
        data = head + digest.to_bytes(8, "little") + layout + payload
        peak = peak_of(lambda data=data: attempt(lambda d: frame.decode(d, W), data))  # type: ignore[misc]
        assert isinstance(attempt(lambda d: frame.decode(d, W), data), FormatError)
        assert peak < 4 << 20


def test_counts_beyond_all_bounds_are_refused_before_anything_is_allocated() -> None:
    for counts in ((2**32 - 1, 1, 1, 0), (1, 2**32 - 1, 1, 0), (1, 1, 2**32 - 1, 0), (1, 1, 1, 2**32 - 1)):
        raw = np.array(counts, dtype="<u4").tobytes() + bytes(100)
        found = attempt(lambda d: decode_chunk(d, 0, 0, 1 << 40, 1, W), raw)
        assert isinstance(found, FormatError)
        assert peak_of(lambda raw=raw: attempt(lambda d: decode_chunk(d, 0, 0, 1 << 40, 1, W), raw)) < 1 << 20  # type: ignore[misc]


@pytest.mark.parametrize("name", ["pack", "manifest", "checkpoint"])
@pytest.mark.parametrize(("offset", "value"), [(8, 2), (8, 77), (12, 1), (12, 6), (15, 128)])
def test_unknown_versions_and_features(name: str, offset: int, value: int) -> None:
    make, decode, _ = DECODERS[name]
    data = bytearray(make())
    data[offset] = value
    if name == "pack":
        data[56:64] = xxhash.xxh3_64_intdigest(bytes(data[:56])).to_bytes(8, "little")
    with pytest.raises(FormatError) as caught:
        decode(bytes(data))
    text = caught.value.sentence
    assert f"version {flags.VERSION}" in text
    if offset == 8:
        assert f"version {value}" in text
    else:
        assert {1: "encryption", 6: "shared", 128: "bit 31"}[value] in text
