"""Which blocks of a pending EBS snapshot were put, by their SHA-256, in a sparse local file; owns resuming and the sum.

A row of 32 bytes for each block, written once AWS has confirmed it; zeros: not put. Losing the file, or rows of it,
costs sending those blocks again, and nothing else: a row is never there before its block is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import U32
from warmspare.model.runs import Runs
from warmspare.model.units import MAX_CAPACITY_BYTES
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES, EbsBlockSet
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.state.page_file import PageFile, Pages

DIGEST_BYTES = 32
_NOT_PUT = bytes(DIGEST_BYTES)


class Digests:
    """The file at `path`, made if absent. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = PageFile(path, STATE_DIRECTORY)
        self._rows = Pages(self._file, DIGEST_BYTES, -(-MAX_CAPACITY_BYTES // EBS_BLOCK_BYTES))

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, index: int, digest: bytes) -> None:
        """AWS has confirmed that block."""
        self._rows.write(index, digest)

    def left(self, indices: U32) -> U32:
        """Those of the blocks that were not put yet."""
        rows = (self._rows.read(index) for index in indices.tolist())
        left: npt.NDArray[np.bool_] = np.array([row == _NOT_PUT for row in rows], dtype=bool)
        return indices[left]

    def total(self, blocks: EbsBlockSet) -> tuple[int, bytes]:
        """(how many, their aggregate by AWS's LINEAR method: SHA-256 over the digests in the order of their blocks).
        ValueError if one of `blocks` was not put."""
        summed, count = hashlib.sha256(), 0
        for batch in blocks.batches(4096):
            for start, run in Runs.of(batch).pairs():
                rows = self._rows.read(start, run)
                if not np.frombuffer(rows, dtype=np.uint8).reshape(-1, DIGEST_BYTES).any(axis=1).all():
                    raise ValueError("a block was not put")
                summed.update(rows)
                count += run
        return count, summed.digest()
