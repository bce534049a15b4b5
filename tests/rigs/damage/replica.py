"""Corruptions of a replica for audits to find: each changes bytes, proves that it did, and names the blocks.

Refuses to change a block twice, so that no corruption undoes another.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from rig import Outcome, Rig, command
from warmspare.model.units import BLOCK_BYTES, block_bytes, block_count


def audit(rig: Rig, *more: object, code: int | None = None, target: Path | None = None) -> Outcome:
    """`warmspare audit replica` on a rig's replica; its reports lie below the rig's home."""
    outcome = command(
        "audit",
        "replica",
        "--vm",
        rig.vm,
        "--repo",
        rig.repo,
        "--replica",
        target or rig.replica,
        "--reports",
        rig.home / "reports",
        *more,
    )
    if code is not None:
        assert outcome.code == code, outcome
    return outcome


def found(outcome: Outcome) -> dict[int, str]:
    """Kind of finding by block, of those that are about single blocks."""
    return {
        event["offset"] // BLOCK_BYTES: event["kind"]
        for event in outcome.all("finding")
        if event["kind"].startswith("block-")
    }


class Corruptor:
    """Changes `target`, which is `truth` now; `older` is what it was at an earlier restore point. wrong: the blocks
    that differ now, and what an audit should call them."""

    def __init__(self, target: Path, truth: Path, older: Path, rng: random.Random) -> None:
        self.target, self.rng = target, rng
        self._truth, self._older = truth.read_bytes(), older.read_bytes()
        self.capacity = len(self._truth)
        self.wrong: dict[int, str] = {}
        self._filled = [b for b in range(block_count(self.capacity)) if any(self._block(b))]
        self._empty = [b for b in range(block_count(self.capacity)) if not any(self._block(b))]
        self._stale = [b for b in self._filled if any(self._block(b, self._older)) and self._differs(b)]

    def _block(self, block: int, of: bytes | None = None) -> bytes:
        return (self._truth if of is None else of)[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]

    def _differs(self, block: int) -> bool:
        return self._block(block, self._older) != self._block(block)

    def _pick(self, among: list[int]) -> int:
        return self.rng.choice([b for b in among if b not in self.wrong])

    def _write(self, block: int, data: bytes, what: str) -> None:
        """Replace a block, and prove by reading it again that it is another now."""
        assert len(data) == block_bytes(block, self.capacity) and block not in self.wrong
        fd = os.open(self.target, os.O_RDWR)
        try:
            os.pwrite(fd, data, block * BLOCK_BYTES)
            assert os.pread(fd, len(data), block * BLOCK_BYTES) == data != self._block(block)
        finally:
            os.close(fd)
        self.wrong[block] = what

    def flip(self) -> None:
        """One bit."""
        block = self._pick(self._filled)
        data = bytearray(self._block(block))
        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        what = "block-wrong" if any(data) else "block-zeroed"
        self._write(block, bytes(data), what)

    def flip_hole(self) -> None:
        """One bit where zeros belong."""
        block = self._pick(self._empty)
        data = bytearray(block_bytes(block, self.capacity))
        data[self.rng.randrange(len(data))] = 1 << self.rng.randrange(8)
        self._write(block, bytes(data), "block-not-zero")

    def zero_run(self) -> None:
        """Some sectors zeroed, as a lost write of a disk leaves them."""
        block = self._pick(self._filled)
        data = bytearray(self._block(block))
        there = next(i for i, byte in enumerate(data) if byte) // 512 * 512
        length = min(len(data) - there, self.rng.choice([512, 4096, 16384]))
        data[there : there + length] = bytes(length)
        self._write(block, bytes(data), "block-wrong" if any(data) else "block-zeroed")

    def zero_block(self) -> None:
        """A whole block zeroed, by writing zeros."""
        block = self._pick(self._filled)
        self._write(block, bytes(block_bytes(block, self.capacity)), "block-zeroed")

    def punch(self) -> None:
        """A hole where data was."""
        block = self._pick(self._filled)
        fd = os.open(self.target, os.O_RDWR)
        try:
            size = block_bytes(block, self.capacity)
            _punch_hole(fd, block * BLOCK_BYTES, size)
            assert os.pread(fd, size, block * BLOCK_BYTES) == bytes(size)
        finally:
            os.close(fd)
        self.wrong[block] = "block-zeroed"

    def swap(self) -> None:
        """Two blocks in each other's place."""
        while True:
            a, b = self._pick(self._filled), self._pick(self._filled)
            one, other = self._block(a), self._block(b)
            if one != other and len(one) == len(other):
                break
        self._write(a, other, "block-misplaced")
        self._write(b, one, "block-misplaced")

    def stale(self) -> None:
        """A block as an earlier restore point has it: the last write to it was lost."""
        block = self._pick(self._stale)
        self._write(block, self._block(block, self._older), "block-stale")

    KINDS: tuple[Callable[[Corruptor], None], ...] = (flip, flip_hole, zero_run, zero_block, punch, swap, stale)


def _punch_hole(fd: int, offset: int, length: int) -> None:
    """By the C library's own call: the package's would be judged by itself."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(fd, 3, offset, length):  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        raise OSError(ctypes.get_errno(), "fallocate")
