"""Which pages of a disk the manifests between two restore points name: what may differ, and nothing else can.

A page that no manifest names is as it was. One that is named may be so all the same: written with what stood there, or
twice. So this is an upper bound, and says nothing of blocks: their hashes do.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np

from warmspare.format.manifest import ManifestReader
from warmspare.model.columns import U16, U32
from warmspare.model.ids import DiskId
from warmspare.model.masks import FULL_MASK, united
from warmspare.model.runs import group_starts, numbers_in
from warmspare.repository.chain import Repository
from warmspare.repository.history.step import Step
from warmspare.repository.verified_objects import manifest_of
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.state.page_column import PageColumn
from warmspare.state.page_file import PageFile
from warmspare.threads import in_thread

_STEP_BLOCKS = 1 << 16  # of a run of zeros, marked in one go


class WrittenPages:
    """Of one disk. A mask a block in an unlinked file of `scratch`, two bytes each, so that memory does not grow with
    the disk. Close it. began: whether the disk is in the older point."""

    def __init__(self, disk: DiskId, scratch: Path, *, began: bool) -> None:
        self.disk = disk
        self._file = PageFile(scratch / f"written-{secrets.token_hex(8)}", STATE_DIRECTORY, anew=True, nameless=True)
        self._masks = PageColumn(self._file, np.uint16)
        self._began = began
        self._known = True  # whether all that differs is named

    def close(self) -> None:
        self._file.close()

    async def step(self, repository: Repository, step: Step, scratch: Path) -> None:
        """Take what the next step up names. IntegrityError, StoreError."""
        stated = step.manifest(self.disk)
        if stated is None or stated.from_nothing:
            # It left, and be it at a point that was let go. Where it comes back it begins as zeros, and what stood
            # there before is named by nobody.
            self._known = self._known and not self._began
        if stated is None:
            return
        async with manifest_of(repository, stated, scratch) as manifest:
            await in_thread(self._take, manifest)

    def _take(self, manifest: ManifestReader) -> None:
        for chunk in manifest.chunks():
            starts = group_starts(chunk.records.block)
            self._add(chunk.records.block[starts], united(chunk.records.pages, starts))
            for start, count in chunk.zeros.pairs():
                for first in range(start, start + count, _STEP_BLOCKS):
                    length = min(_STEP_BLOCKS, start + count - first)
                    blocks = numbers_in(np.array([first]), np.array([length])).astype(np.uint32)
                    self._add(blocks, np.full(length, FULL_MASK, dtype=np.uint16))

    def _add(self, blocks: U32, masks: U16) -> None:
        self._masks.put(blocks, self._masks.get(blocks) | masks)

    def of(self, blocks: U32) -> U16:
        """The pages of each of some ascending blocks that may differ."""
        if not self._known:
            return np.full(blocks.size, FULL_MASK, dtype=np.uint16)
        masks: U16 = self._masks.get(blocks)
        return masks
