"""The audit's kernel against plain Python: verdicts, hashes, short files, errors of the medium."""

from __future__ import annotations

import ctypes
import os
import random
from pathlib import Path

import numpy as np
import pytest
import xxhash

from unit.reference import judge_file
from warmspare._native import judge
from warmspare.model.units import BLOCK_BYTES, block_count


def write(path: Path, rng: random.Random, capacity: int) -> bytes:
    """A file of data, zeros, nearly zeros and holes."""
    with path.open("wb") as file:
        file.truncate(capacity)
        for block in range(block_count(capacity)):
            size = min(BLOCK_BYTES, capacity - block * BLOCK_BYTES)
            draw = rng.random()
            file.seek(block * BLOCK_BYTES)
            if draw < 0.4:
                file.write(rng.randbytes(size))
            elif draw < 0.5:
                file.write(bytes(size))
            elif draw < 0.7:
                data = bytearray(size)
                data[rng.choice([0, 7, 8, size // 2, size - 1]) % size] = 1
                file.write(data)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(10))
def test_the_kernel_agrees_with_python(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    capacity = rng.choice([1, 7, 4096, BLOCK_BYTES, 40 * BLOCK_BYTES, 40 * BLOCK_BYTES + rng.randrange(1, BLOCK_BYTES)])
    path = tmp_path / "disk"
    data = write(path, rng, capacity)
    blocks = block_count(capacity)
    expected = bytearray()
    for block in range(blocks):
        piece = data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
        right = xxhash.xxh3_128_digest(piece) if any(piece) else bytes(16)
        expected += rng.choice([right, right, right, bytes(16), rng.randbytes(16)])
    if rng.random() < 0.5:
        os.truncate(path, rng.randrange(capacity + 1))
    chosen = np.array(sorted(rng.sample(range(blocks), rng.randrange(blocks) + 1)), np.uint32)
    count = chosen.size
    fd = os.open(path, os.O_RDONLY)
    actual, verdict = np.full(count * 16, 9, np.uint8), np.full(count, 9, np.uint8)
    wanted = np.frombuffer(b"".join(expected[b * 16 : b * 16 + 16] for b in chosen.tolist()), np.uint8)
    try:
        read = judge.judge(fd, capacity, chosen, wanted, actual, verdict)
    finally:
        os.close(fd)
    verdicts, hashes, read_there = judge_file(path.read_bytes(), capacity, chosen.tolist(), wanted.tobytes())
    assert verdict.tolist() == verdicts
    assert actual.tobytes() == b"".join(hashes)
    assert read == read_there


def test_both_builds_of_the_hash_agree() -> None:
    rng = random.Random(2)
    for size in [0, 1, 3, 16, 17, 128, 129, 240, 241, 1024, 4095, BLOCK_BYTES, BLOCK_BYTES + 1, 300_000]:
        data = rng.randbytes(size)
        assert judge.hash_both(data) == (xxhash.xxh3_128_digest(data),) * 2


def test_it_refuses_what_lies_beyond(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(BLOCK_BYTES))
    fd = os.open(path, os.O_RDONLY)
    two, pair = np.zeros(2, np.uint8), np.array([0, 1], np.uint32)
    try:
        with pytest.raises(ValueError, match="beyond the disk"):
            judge.judge(fd, BLOCK_BYTES, pair, np.zeros(32, np.uint8), np.zeros(32, np.uint8), two)
        with pytest.raises(ValueError, match="shorter"):
            judge.judge(fd, 2 * BLOCK_BYTES, pair, np.zeros(31, np.uint8), np.zeros(32, np.uint8), two)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        judge.judge(fd, BLOCK_BYTES, pair[:1], np.zeros(16, np.uint8), np.zeros(16, np.uint8), two[:1])


def test_one_bad_sector_takes_no_other_block_with_it() -> None:
    """A stretch of this process's own memory that is not mapped reads as an error of the medium."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size = 8 * BLOCK_BYTES
    start = libc.mmap(None, size + BLOCK_BYTES, 3, 0x22, -1, 0)
    base = -(-start // BLOCK_BYTES) * BLOCK_BYTES
    ctypes.memset(base, 0x5A, size)
    assert libc.munmap(base + 3 * BLOCK_BYTES, BLOCK_BYTES) == 0
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    right = np.frombuffer(xxhash.xxh3_128_digest(b"\x5a" * BLOCK_BYTES) * 8, np.uint8)
    actual, verdict = np.zeros(128, np.uint8), np.full(8, 9, np.uint8)
    try:
        blocks = np.arange(8, dtype=np.uint32) + np.uint32(base // BLOCK_BYTES)
        read = judge.judge(fd, 1 << 47, blocks, right, actual, verdict)
    finally:
        os.close(fd)
    assert verdict.tolist() == [judge.SOUND] * 3 + [judge.UNREADABLE] + [judge.SOUND] * 4
    assert read == 7 * BLOCK_BYTES
