"""Which blocks of a pending EBS snapshot were put, by their SHA-256, in a sparse local file; owns resuming and the sum.

A row of 32 bytes for each block, written once AWS has confirmed it; zeros: not put. Losing the file, or rows of it,
costs sending those blocks again, and nothing else: a row is never there before its block is.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import U32
from warmspare.model.runs import Runs
from warmspare.outside.regular_files import open_regular
from warmspare.recover.blocks.ebs_blocks import EbsBlockSet
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

DIGEST_BYTES = 32
_NOT_PUT = bytes(DIGEST_BYTES)


class Digests:
    """The file at `path`, made if absent. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with local_io(STATE_DIRECTORY, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT)

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def put(self, index: int, digest: bytes) -> None:
        """AWS has confirmed that block."""
        with local_io(STATE_DIRECTORY, self._path):
            pwrite_all(self._fd, digest, index * DIGEST_BYTES)

    def left(self, indices: U32) -> U32:
        """Those of the blocks that were not put yet."""
        left: npt.NDArray[np.bool_] = np.array([self._row(index) == _NOT_PUT for index in indices.tolist()], dtype=bool)
        return indices[left]

    def _row(self, index: int) -> bytes:
        with local_io(STATE_DIRECTORY, self._path):
            return os.pread(self._fd, DIGEST_BYTES, index * DIGEST_BYTES).ljust(DIGEST_BYTES, b"\0")

    def total(self, blocks: EbsBlockSet) -> tuple[int, bytes]:
        """(how many, their aggregate by AWS's LINEAR method: SHA-256 over the digests in the order of their blocks).
        ValueError if one of `blocks` was not put."""
        summed, count = hashlib.sha256(), 0
        for batch in blocks.batches(4096):
            for start, run in Runs.of(batch).pairs():
                with local_io(STATE_DIRECTORY, self._path):
                    rows = os.pread(self._fd, run * DIGEST_BYTES, start * DIGEST_BYTES)
                table = np.frombuffer(rows, dtype=np.uint8)
                if table.size != run * DIGEST_BYTES or not table.reshape(-1, DIGEST_BYTES).any(axis=1).all():
                    raise ValueError("a block was not put")
                summed.update(rows)
                count += run
        return count, summed.digest()
