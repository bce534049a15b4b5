"""Every block of every restore point, read from the packs and hashed once; owns the one pass over the chain.

Manifests are applied to a scratch image, oldest first, so that a block costs a hash at each point that touches it and
nothing at those that share it. Only blocks of which some point inherits pages are kept in the image. Memory does not
grow with the disk. An audit that was interrupted goes on from the chunk it was at.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import aclosing, closing

import numpy as np

from warmspare.audit.reports.collect import Findings, extent
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.deep.deep_progress import DeepDiskProgress, DeepProgress, Keeper, Pending
from warmspare.audit.repository.deep.pack_shelf import PackShelf
from warmspare.audit.repository.deep.verify import (
    Bench,
    FrameUse,
    FrameVerdict,
    Part,
    check_block,
    check_frames,
    check_loose,
    parts,
)
from warmspare.audit.repository.descent import AHEAD, Chain, read_record
from warmspare.audit.repository.losses import Change, Losses
from warmspare.audit.repository.manifest_checks import Manifest, StatedManifest, open_manifest
from warmspare.audit.repository.object_checks import Fetched, FindingPlace, ObjectChecks
from warmspare.audit.repository.scratch import Scratch
from warmspare.audit.repository.walk import PointWalk
from warmspare.errors import FormatError, NotFoundError
from warmspare.format.chunk import Chunk
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.format.restore_point import Disk, RestorePoint
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import distinct
from warmspare.model.ids import DiskId, VmKey
from warmspare.model.runs import Rows, Runs, by_value
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.side_by_side import ahead
from warmspare.state.page_column import PageColumn
from warmspare.threads import Threads, in_thread

FRAMES_A_JOB = 8  # one visit to a thread
JOBS_AT_ONCE = 4
SPLIT_BLOCKS = 256  # 16 MiB in hand
SAVE_S = 5.0
SYNC_S = 60.0
FILES = ("image", "entries", "lost")


class ScannedDisk:
    """One disk's scratch: the kept blocks, the hashes that were proved, what is lost. Made anew, or as it was left."""

    def __init__(self, scratch: Scratch, name: str, left: DeepDiskProgress | None) -> None:
        self.files = [scratch.file(f"{name}.{suffix}", left=left is not None) for suffix in FILES]
        if left is None:
            self.empty()
        self.image = self.files[0]
        self.entries = PageColumn(self.files[1], np.uint8, ENTRY_BYTES)
        self.losses = Losses(self.files[2])
        self.capacity_bytes, self.stopped = 0, ""
        if left is not None:
            self.capacity_bytes, self.stopped = left.capacity_bytes, left.stopped
            self.losses.blocks, self.losses.spans = left.lost, list(left.spans)

    def empty(self) -> None:
        """A disk of zeros."""
        for file in self.files:
            file.empty()

    def restart(self) -> None:
        """The disk was not in the point before."""
        self.empty()
        self.capacity_bytes, self.stopped, self.losses.blocks = 0, "", 0

    def left(self) -> DeepDiskProgress:
        return DeepDiskProgress(self.capacity_bytes, self.losses.blocks, self.losses.spans, self.stopped)


class Deep:
    """Runs once, for one VM, after its walk. progress: where to go on, as `Keeper` had it, or a fresh one."""

    def __init__(
        self,
        objects: ObjectChecks,
        walk: PointWalk,
        chain: Chain,
        vm: VmKey,
        progress: DeepProgress,
        keeper: Keeper,
        meter: Meter,
    ) -> None:
        self._objects, self._findings, self._walk, self._chain, self._vm = objects, objects.findings, walk, chain, vm
        self.progress, self._keeper, self._meter = progress, keeper, meter
        self.images: dict[DiskId, ScannedDisk] = {}
        self._threads = Threads(JOBS_AT_ONCE, "audit")
        self._saved = self._synced = self._began = time.monotonic()
        self._seconds, self._fetched = progress.seconds, progress.fetched_bytes - objects.fetched_bytes
        self._mine = Findings()
        for one in progress.findings:
            self._mine.put(one)
        self._mine.left_out += progress.left_out

    async def run(self) -> None:
        """StoreError, StaleScratchError; findings for all else."""
        judged = ObjectChecks(self._objects.store, self._objects.scratch, self._mine)
        judged.fetched_bytes = self._objects.fetched_bytes
        self._judged = judged
        before: RestorePoint | None = None
        known_before = True
        kept = [sequence for sequence in self._chain.kept if sequence <= self.progress.target]
        earlier = [sequence for sequence in kept if sequence < self.progress.at]
        try:
            async with aclosing(ahead(self._record, kept[max(len(earlier) - 1, 0) :], AHEAD)) as reads:
                async for sequence, reading in reads:
                    record = await reading
                    if sequence >= self.progress.at:
                        await self._point(sequence, record, before, known_before=known_before)
                    before, known_before = record, record is not None
        finally:
            self._threads.close()
            self._objects.fetched_bytes = judged.fetched_bytes
        for one in self._mine.listed:
            self._findings.put(one)
        self._findings.left_out += self._mine.left_out

    async def _record(self, sequence: int) -> RestorePoint | None:
        link = self._chain.links.get(sequence)
        if link is None or self._chain.uncertain(sequence):
            return None
        try:
            record, digest = await read_record(self._objects.store, self._vm, sequence)
        except (NotFoundError, FormatError):
            return None
        return record if digest == link.sha256 else None

    async def _point(
        self, sequence: int, record: RestorePoint | None, before: RestorePoint | None, *, known_before: bool
    ) -> None:
        progress = self.progress
        if sequence > progress.at or not progress.at_sha256:
            progress.at, progress.disk, progress.chunks, progress.packs = sequence, 0, 0, []
        link = self._chain.links.get(sequence)
        progress.at_sha256 = link.sha256 if link else "-"
        if record is None or link is None:
            for image in self.images.values():
                image.stopped = image.stopped or str(sequence)
            self._save(force=True)
            return
        for index, disk in enumerate(record.disks):
            image = self._image(disk)
            if index < progress.disk:
                continue
            stated = StatedManifest.of(record, disk, self._chain.folds.by_target.get(sequence))
            anew = bool(stated and stated.from_nothing)
            begins = anew or (before is not None and before.disk(disk.id) is None)
            if begins and (index > progress.disk or not progress.chunks):
                image.restart()
            if index > progress.disk:
                progress.disk, progress.chunks, progress.packs = index, 0, []
            if stated is None or (not known_before and not image.capacity_bytes and not anew):
                image.stopped = link.label
            if stated is not None and not image.stopped:
                await self._disk(stated, image, FindingPlace(link.label, disk.id))
            image.losses.at(sequence, before.sequence if before else 0)
            image.capacity_bytes = disk.capacity_bytes
            progress.disk, progress.chunks, progress.packs = index + 1, 0, []
            # Before anything of the next is applied: what is done again must find the image as it was.
            self._save(force=True)

    def _image(self, disk: Disk) -> ScannedDisk:
        image = self.images.get(disk.id)
        if image is None:
            name = self._keeper.file_name(self.progress.token, disk.id)
            left = self.progress.disks.get(disk.id)
            image = self.images[disk.id] = ScannedDisk(self._objects.scratch, name, left)
            pending = self.progress.pending
            if pending and pending.disk == disk.id:
                blocks, pages = np.array(pending.blocks, dtype=np.uint32), np.array(pending.pages, dtype=np.uint16)
                image.losses.make(Change(blocks, pages, pending.cleared, blocks[:0], pending.count))
                self.progress.pending = None
        return image

    # one disk of one point

    async def _disk(self, stated: StatedManifest, image: ScannedDisk, place: FindingPlace) -> None:
        disk = stated.disk
        manifest = await open_manifest(self._judged, self._vm, stated, place, quiet=True)
        if manifest is None:
            image.stopped = place.point
            self._mine.add(
                FindingKind.BLOCK_UNRECOVERABLE,
                point=place.point,
                disk=disk.id,
                key=stated.ref.key,
                offset=0,
                length=disk.capacity_bytes,
                expected="its manifest",
                actual="none that can be used",
                meaning="what this point and those after it have on the disk can't be told without its manifest",
            )
            return
        with closing(manifest):
            try:
                await self._chunks(manifest, disk, image, place)
            except* FormatError:
                image.stopped = place.point  # the walk has named it

    async def _chunks(self, manifest: Manifest, disk: Disk, image: ScannedDisk, place: FindingPlace) -> None:
        progress = self.progress
        bad = self._walk.disks[disk.id].bad_packs if disk.id in self._walk.disks else set()
        shelf: PackShelf | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                shelf = PackShelf(self._judged, manifest.packs, place, bad, set(progress.packs), tasks)
                chunks = manifest.chunks()
                number = 0
                while (chunk := await in_thread(next, chunks, None)) is not None:
                    number += 1
                    if number > progress.chunks:
                        change = await self._chunk(chunk, shelf, disk, image, place)
                        progress.chunks, progress.packs = number, sorted(shelf.done)
                        await in_thread(self._change, image, disk.id, change)
                await shelf.rest()
        finally:
            if shelf:
                shelf.clear()

    async def _chunk(
        self, chunk: Chunk, shelf: PackShelf, disk: Disk, image: ScannedDisk, place: FindingPlace
    ) -> Change | None:
        inherits = self._walk.disks[disk.id].inherits
        odd = -1
        if image.capacity_bytes % BLOCK_BYTES and image.capacity_bytes != disk.capacity_bytes:
            odd = image.capacity_bytes // BLOCK_BYTES
        block = chunk.records.block
        bench = Bench(
            chunk,
            disk.capacity_bytes,
            image.image,
            masks.whole_masks(block, disk.capacity_bytes),
            await in_thread(image.entries.get, block),
            image.losses.of(block),
            await in_thread(inherits.get, block),
            odd,
        )
        verdict = FrameVerdict()
        split = chunk.records.several()
        await self._single(bench, shelf, np.flatnonzero(~split), verdict)
        if split.any():
            await self._split(bench, shelf, np.flatnonzero(split), verdict)
        change = await in_thread(self._settle, bench, image, disk, place, verdict)
        self._meter.done_bytes = self._meter.read_bytes = self._fetched + self._judged.fetched_bytes
        self._meter.blocks_verified = self.progress.states
        return change

    async def _single(self, bench: Bench, shelf: PackShelf, rows: Rows, verdict: FrameVerdict) -> None:
        """Records that are the only ones of their blocks: frame by frame, pack by pack."""
        chunk = bench.chunk
        loose = rows[chunk.records.frame[rows] == NO_FRAME]
        if loose.size:
            _join(verdict, await self._threads.run(check_loose, bench, loose.tolist()))
        slots = asyncio.Semaphore(JOBS_AT_ONCE)

        async def work(source: Fetched | None, pieces: list[FrameUse]) -> None:
            try:
                _join(verdict, await self._threads.run(check_frames, bench, source, pieces))
            finally:
                slots.release()

        for pack, pieces in _by_pack(chunk, rows):
            source = await shelf.get(pack)
            async with asyncio.TaskGroup() as jobs:
                for at in range(0, len(pieces), FRAMES_A_JOB):
                    await slots.acquire()
                    jobs.create_task(work(source, pieces[at : at + FRAMES_A_JOB]), name="verify")

    async def _split(self, bench: Bench, shelf: PackShelf, rows: Rows, verdict: FrameVerdict) -> None:
        """Blocks that several records make up together, some at a time."""
        block, frame = bench.chunk.records.block, bench.chunk.records.frame
        blocks = distinct(block[rows])
        for at in range(0, blocks.size, SPLIT_BLOCKS):
            few = rows[np.isin(block[rows], blocks[at : at + SPLIT_BLOCKS])]
            found: dict[int, list[Part]] = {}
            for row in few[frame[few] == NO_FRAME].tolist():
                found.setdefault(int(block[row]), []).append(Part(row, b"", 0, 0))
            for pack, pieces in _by_pack(bench.chunk, few):
                source = await shelf.get(pack)
                for piece in pieces:
                    for part in await self._threads.run(parts, bench, source, piece, verdict):
                        found.setdefault(int(block[part.row]), []).append(part.alone())
            for records in found.values():
                await self._threads.run(check_block, bench, records, verdict)

    def _settle(
        self, bench: Bench, image: ScannedDisk, disk: Disk, place: FindingPlace, verdict: FrameVerdict
    ) -> Change | None:
        """In a thread: what the chunk leaves for the next point; what is lost changes by what is returned."""
        chunk = bench.chunk
        taken = np.zeros(len(chunk.records), dtype=np.uint16)
        for row, pages in verdict.taken:
            taken[row] |= np.uint16(pages)
        change = image.losses.plan(chunk, taken)
        for start, count in Runs.of(change.fresh).pairs() if change else ():
            self._mine.add(
                FindingKind.BLOCK_UNRECOVERABLE,
                point=place.point,
                disk=disk.id,
                expected="bytes with the recorded hashes",
                actual=verdict.why,
                **extent(start, count, disk.capacity_bytes),
            )
        image.entries.put(chunk.records.block, chunk.records.hashes)
        zeros = 0
        for start, count in chunk.zeros.pairs():
            image.entries.clear(start, count)
            image.image.punch(start * BLOCK_BYTES, count * BLOCK_BYTES)
            zeros += count
        self.progress.states += verdict.sound + zeros
        self.progress.unsure += verdict.unsure
        self._objects.scratch.measure()
        return change

    def _change(self, image: ScannedDisk, disk_id: DiskId, change: Change | None) -> None:
        """In a thread: make it so that an audit that dies here and goes on makes it once. All else that a chunk does
        may be done twice."""
        if change is None:
            self._save()
            return
        blocks, pages = change.blocks.tolist(), change.pages.tolist()
        self.progress.pending = Pending(disk_id, blocks, pages, change.cleared, change.count)
        self._save(force=True)
        image.losses.make(change)
        self.progress.pending = None

    def _save(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._saved < SAVE_S:
            return
        progress, durable = self.progress, now - self._synced >= SYNC_S
        progress.disks = {**progress.disks, **{name: image.left() for name, image in self.images.items()}}
        progress.findings, progress.left_out = self._mine.listed, self._mine.left_out
        progress.fetched_bytes = self._fetched + self._judged.fetched_bytes
        progress.seconds = self._seconds + now - self._began
        files = [file for image in self.images.values() for file in image.files]
        self._keeper.save(progress, files, durable=durable)
        self._saved = now
        self._synced = now if durable else self._synced


def _by_pack(chunk: Chunk, rows: Rows) -> Iterator[tuple[int, list[FrameUse]]]:
    """(pack, the frames in it that these rows use, by offset), pack by pack."""
    frame = chunk.records.frame
    used = by_value(frame, rows[frame[rows] != NO_FRAME])
    pieces = [FrameUse(*chunk.frames.place(index), using.tolist()) for index, using in used]
    pieces.sort(key=lambda piece: (piece.pack, piece.offset))
    for pack, of_pack in itertools.groupby(pieces, key=lambda piece: piece.pack):
        yield pack, list(of_pack)


def _join(into: FrameVerdict, other: FrameVerdict) -> None:
    into.sound += other.sound
    into.unsure += other.unsure
    into.taken += other.taken
    into.why = into.why or other.why
