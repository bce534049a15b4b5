"""Blocks that were read already, held against hashes by the audits' kernel, and by xxhash in Python."""

from __future__ import annotations

import random

import numpy as np
import pytest
import xxhash

from warmspare._native import judge as native

BLOCK = 65536


def judged(data: bytes, expected: bytes) -> list[tuple[int, bytes]]:
    count = -(-len(data) // BLOCK)
    actual, verdict = np.full(count * 16, 0xEE, np.uint8), np.full(count, 9, np.uint8)
    native.judge_span(memoryview(data), np.frombuffer(expected, np.uint8), actual, verdict)
    return [(int(verdict[i]), actual[i * 16 : i * 16 + 16].tobytes()) for i in range(count)]


@pytest.mark.parametrize("tail", [0, 1, 7, 8, 511, 4097, 65535])
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_reference(tail: int, seed: int) -> None:
    rng = random.Random(f"{tail} {seed}")
    kinds = [bytes(BLOCK), rng.randbytes(BLOCK), bytes(BLOCK - 1) + b"x"]
    blocks = [rng.choice(kinds) for _ in range(rng.randrange(5))]
    if tail:
        blocks.append(rng.choice([bytes(tail), rng.randbytes(tail)]))
    expected, answers = b"", []
    for block in blocks:
        zero = not any(block)
        own = xxhash.xxh3_128_digest(block)
        wanted = rng.choice([bytes(16), own, rng.randbytes(16)])
        expected += wanted
        right = zero if wanted == bytes(16) else wanted == own
        verdict = (native.ZERO if wanted == bytes(16) else native.SOUND) if right else native.WRONG
        said_zero = zero and wanted != own
        answers.append((verdict, bytes(16) if said_zero else own))
    assert judged(b"".join(blocks), expected) == answers


def test_arrays_of_another_size_are_refused() -> None:
    data = memoryview(bytes(BLOCK + 1))
    for expected, actual, verdict in ((16, 32, 2), (32, 16, 2), (32, 32, 1), (48, 48, 3)):
        with pytest.raises(ValueError, match="as many blocks"):
            native.judge_span(
                data, np.zeros(expected, np.uint8), np.zeros(actual, np.uint8), np.zeros(verdict, np.uint8)
            )
