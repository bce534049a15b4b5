"""Parts of reading a restore point without a replica: the kernel's protocol; blocks that are proved or not given."""

from __future__ import annotations

import asyncio
import errno
import random
import struct

import numpy as np
import pytest
import xxhash

from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.model.columns import U8, U32
from warmspare.model.units import BLOCK_BYTES, block_count
from warmspare.recover.blocks.pointblocks import KEPT, Kept, PointBlocks
from warmspare.recover.disks import fuse
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.threads import Threads

MIB = 1 << 20


def request(asked: int, node: int, body: bytes = b"", unique: int = 7) -> fuse.FuseRequest:
    header = struct.pack("=IIQQIIIHH", 40 + len(body), asked, unique, node, 0, 0, 0, 0, 0)
    return fuse.parse(header + body)


def answered(files: fuse.FuseFiles, asked: fuse.FuseRequest) -> tuple[int, bytes]:
    """(errno, body) of an answer, its header held to what it must say."""
    pieces = files.answer(asked)
    assert isinstance(pieces, list)
    data = b"".join(pieces)
    length, error, unique = struct.unpack_from("=IiQ", data)
    assert length == len(data) and unique == asked.unique
    return -error, data[16:]


def test_files_are_found_read_within_their_size_and_never_written() -> None:
    files = fuse.FuseFiles([1000, 1 << 41], (1, 2), 8)
    error, entry = answered(files, request(fuse.FuseRequests.LOOKUP, fuse.ROOT, b"1\0"))
    node, size, mode = *struct.unpack_from("=Q", entry), *struct.unpack_from("=Q", entry, 48), entry[100:104]
    assert (error, node, size, len(entry)) == (0, 3, 1 << 41, 128) and struct.unpack("=I", mode)[0] == 0o100400
    assert answered(files, request(fuse.FuseRequests.LOOKUP, fuse.ROOT, b"2\0")) == (errno.ENOENT, b"")
    assert answered(files, request(fuse.FuseRequests.GETATTR, 4)) == (errno.ENOSYS, b"")
    read = struct.pack("=QQIIQII", 0, 900, 4096, 0, 0, 0, 0)
    assert files.answer(request(fuse.FuseRequests.READ, 2, read)) == fuse.Read(7, 0, 900, 100)
    beyond = struct.pack("=QQIIQII", 0, 1 << 20, 4096, 0, 0, 0, 0)
    assert files.answer(request(fuse.FuseRequests.READ, 2, beyond)) == fuse.Read(7, 0, 1 << 20, 0)
    for refused in (9, 16, 25, 27, 35):  # mkdir, write, flush, opendir, create
        assert answered(files, request(refused, 2, bytes(100))) == (errno.ENOSYS, b""), refused
    for silent in (fuse.FuseRequests.FORGET, fuse.FuseRequests.BATCH_FORGET):
        assert files.answer(request(silent, 2, bytes(16))) is None
    unwanted = struct.pack("=Q", 5)
    assert files.answer(request(fuse.FuseRequests.INTERRUPT, 2, unwanted)) == fuse.Interrupt(5)


def listed(files: fuse.FuseFiles, offset: int, most: int) -> list[tuple[bytes, int]]:
    """(name, where to go on) of each entry of an answer."""
    error, data = answered(
        files, request(fuse.FuseRequests.READDIR, fuse.ROOT, struct.pack("=QQIIQII", 0, offset, most, 0, 0, 0, 0))
    )
    assert not error and len(data) <= most
    entries = []
    while data:
        _, following, length, _ = struct.unpack_from("=QQII", data)
        entries.append((data[24 : 24 + length], following))
        data = data[24 + length + -length % 8 :]
    return entries


def test_named_files_are_listed_in_any_steps_and_have_their_date() -> None:
    names = [f"disk-{number}" + "x" * (number % 9) for number in range(300)]
    files = fuse.FuseFiles([1000] * 300, (1, 2), 8, names, 1234)
    assert answered(files, request(fuse.FuseRequests.OPENDIR, fuse.ROOT))[0] == 0
    for most in (64, 100, 4096, 1 << 20):
        offset, found = 0, []
        while some := listed(files, offset, most):
            found += [name.decode() for name, _ in some]
            offset = some[-1][1]
        assert found == [".", "..", *names]
    error, entry = answered(files, request(fuse.FuseRequests.LOOKUP, fuse.ROOT, names[7].encode() + b"\0"))
    assert not error and struct.unpack_from("=Q", entry)[0] == fuse.FIRST + 7
    assert struct.unpack_from("=QQQ", entry, 40 + 24) == (1234, 1234, 1234)


def test_a_cut_request_is_none() -> None:
    whole = struct.pack("=IIQQIIIHH", 44, 3, 1, 1, 0, 0, 0, 0, 0) + b"more"
    assert fuse.parse(whole).body == b"more"
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=f"a request of {end} bytes"):
            fuse.parse(whole[:end])


class _Table:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, blocks: U32) -> U8:
        out = np.zeros((blocks.size, 16), dtype=np.uint8)
        for row, number in enumerate(blocks.tolist()):
            block = self._data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            if block.strip(b"\0"):
                out[row] = np.frombuffer(xxhash.xxh3_128_digest(block), dtype=np.uint8)
        return out


class _Chain:
    """A chain that gives these bytes; damaged: blocks of which one byte is another; missing: those it can't give."""

    def __init__(self, data: bytes) -> None:
        self._data, self.filled, self.damaged, self.missing = data, list[int](), set[int](), set[int]()
        self.asked = 0

    async def gather(self, window: BlockWindow) -> dict[int, IntegrityError]:
        self.asked += 1
        lost = {}
        for position in range(window.blocks.size):
            number, row = int(window.blocks[position]), int(window.rows[position])
            block = bytearray(self._data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
            if number in self.missing:
                lost[position] = IntegrityError(f"the pack of block {number} is missing")
                continue
            if number in self.damaged:
                block[-1] ^= 1
            window.pages[row : row + 16].reshape(-1)[: len(block)] = np.frombuffer(block, dtype=np.uint8)
            self.filled.append(number)
        return lost


def _blocks(data: bytes) -> tuple[PointBlocks, _Chain, Kept]:
    chain, kept = _Chain(data), Kept()
    disk = Disk("d", "d", len(data), "", ObjectRef("k", 1, "", 0), 0)
    blocks = PointBlocks(disk, _Table(data), chain, Threads(1, "test"), kept)  # type: ignore[arg-type]
    return blocks, chain, kept


async def test_any_range_is_what_the_disk_has_and_zeros_cost_nothing() -> None:
    rng = random.Random(8)
    data = b"".join(rng.choice([bytes(BLOCK_BYTES), rng.randbytes(BLOCK_BYTES)]) for _ in range(400)) + b"short" * 99
    blocks, chain, kept = _blocks(data)
    for _ in range(300):
        at = rng.randrange(len(data))
        length = min(rng.randrange(1, 130_000), len(data) - at)
        assert await blocks.read(at, length) == data[at : at + length]
        assert len(kept) <= KEPT
    zeros = {n for n in range(block_count(len(data))) if not data[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES].strip(b"\0")}
    assert zeros and not zeros & {*chain.filled} and blocks.verified == len(chain.filled)
    before = len(chain.filled)
    assert await blocks.read(len(data) - 5, 5) == await blocks.read(len(data) - 5, 5) == b"short"
    assert len(chain.filled) <= before + 1  # kept


async def test_a_wrong_block_is_never_given_and_its_neighbours_are() -> None:
    data = random.Random(9).randbytes(2 * MIB)
    blocks, chain, _ = _blocks(data)
    chain.damaged = {3}
    for _ in range(2):
        with pytest.raises(IntegrityError, match="block 3 of disk d does not verify"):
            await blocks.read(2 * BLOCK_BYTES, 3 * BLOCK_BYTES)
        assert await blocks.read(2 * BLOCK_BYTES, BLOCK_BYTES) == data[2 * BLOCK_BYTES : 3 * BLOCK_BYTES]
    chain.damaged = set()
    assert await blocks.read(0, MIB) == data[:MIB]


async def test_who_goes_on_is_read_more_at_once_and_who_jumps_is_not() -> None:
    data = random.Random(10).randbytes(12 * MIB)
    blocks, chain, _ = _blocks(data)
    for at in range(0, len(data), 2 * BLOCK_BYTES):
        assert await blocks.read(at, 2 * BLOCK_BYTES) == data[at : at + 2 * BLOCK_BYTES]
    assert chain.asked <= 7 and sorted(chain.filled) == list(range(len(data) // BLOCK_BYTES)), "each once, in few steps"
    blocks, chain, _ = _blocks(data)
    for at in range(0, len(data) - MIB, MIB + 3 * BLOCK_BYTES):
        await blocks.read(at, 100)
    assert len(chain.filled) == chain.asked == len(range(0, len(data) - MIB, MIB + 3 * BLOCK_BYTES))


async def test_what_was_read_beside_is_a_fault_only_where_it_is_wanted() -> None:
    data = random.Random(11).randbytes(4 * MIB)
    blocks, chain, _ = _blocks(data)
    chain.damaged, chain.missing = {20}, {29}
    for block in range(len(data) // BLOCK_BYTES):
        reading = blocks.read(block * BLOCK_BYTES, BLOCK_BYTES)
        if block in (20, 29):
            with pytest.raises(IntegrityError, match=rf"block {block} (of disk d does not verify|is missing)"):
                await reading
        else:
            assert await reading == data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
    assert chain.asked < 20


async def test_readers_side_by_side_are_read_each_block_once() -> None:
    data = random.Random(12).randbytes(6 * MIB)
    blocks, chain, _ = _blocks(data)
    step = 2 * BLOCK_BYTES

    async def read(begin: int) -> None:
        for at in range(begin, len(data), step):
            assert await blocks.read(at, step) == data[at : at + step]

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        for begin in (0, 0, step, MIB, 2 * MIB):
            tasks.create_task(read(begin))
    assert sorted(chain.filled) == list(range(len(data) // BLOCK_BYTES))
