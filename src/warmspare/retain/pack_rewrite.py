"""Frames that a folded manifest still needs, copied out of packs that hold little else; owns which packs that is worth.

Frames are proved by their own checksums on the way, and copied as they are, but for those of which pages are of no use
any more (frame_joining.py). What is read are the frames that are needed, and no pack of which none is.
docs/operations.md, "Retention".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from warmspare.errors import FormatError, IntegrityError
from warmspare.format import frame
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.manifest import ManifestReader, ManifestWriter
from warmspare.format.pack import HEADER, PACK_BYTES, PackHeader
from warmspare.format.packlist import PackRef
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import U64
from warmspare.model.ids import PackId, RunId, VmKey
from warmspare.model.units import FRAME_PAGES, PAGE_BYTES
from warmspare.repository.chain import Repository
from warmspare.repository.history.frame_names import names_of, offsets_of_names, packs_of_names
from warmspare.repository.verified_objects import read_sound
from warmspare.retain.frame_joining import FrameJoining, Joined, to_join
from warmspare.store import layout
from warmspare.store.contract import PART_BYTES, Upload
from warmspare.threads import in_thread

SMALL_BYTES = 8 << 20  # packs below this are put together, whatever they hold
RANGE_BYTES = 4 << 20
GAP_BYTES = 2 << 10  # between two frames: less to read than to ask for
AHEAD = 6  # ranges under way
WORTH = 8  # a pack is written again where at least one byte in so many comes back

# What S3 asks for in us-east-1 and within a few percent elsewhere, in dollars: a GB kept for a month, 1000 requests.
MONTH_GB = 0.023
PUT_1000, GET_1000 = 0.005, 0.0004
MONTHS = 1.0  # in which a rewrite must have paid for itself


@dataclass(frozen=True, slots=True, eq=False)
class PackUse:
    """What a manifest needs of one pack. offsets, sizes: of its frames, ascending. needed, held: how many pages of each
    are, and how many it has, as far as that is known without reading it."""

    ref: PackRef
    offsets: U64
    sizes: U64
    needed: U64
    held: U64

    @property
    def live_bytes(self) -> int:
        """That a rewrite would write."""
        whole = ~to_join(self.needed, self.held)
        return int(np.where(whole, self.sizes, self.sizes * self.needed // self.held).sum())

    @property
    def dead_bytes(self) -> int:
        return self.ref.bytes - self.live_bytes - HEADER.size

    def ranges(self) -> Iterator[tuple[int, int, slice]]:
        """(offset, length, which frames) of the requests that bring them."""
        start = first = 0
        for index in range(len(self.offsets) + 1):
            ends = index == len(self.offsets)
            if index > first:
                end = int(self.offsets[index - 1] + self.sizes[index - 1])
                apart = ends or int(self.offsets[index]) - end > GAP_BYTES
                full = not ends and int(self.offsets[index] + self.sizes[index]) - start > RANGE_BYTES
                if apart or full:
                    yield start, end - start, slice(first, index)
                    first = index
            if not ends and index == first:
                start = int(self.offsets[index])


def uses(manifest: ManifestReader, made_of: Sequence[ManifestReader]) -> list[PackUse]:
    """What a manifest needs, by the index of the pack. made_of: the manifests that it says together. FormatError."""
    name, size, needed = _frames_of(manifest)
    held = np.maximum(needed, np.minimum(size // np.uint64(PAGE_BYTES), np.uint64(FRAME_PAGES)))
    index = {pack.id: place for place, pack in enumerate(manifest.packs)}
    for source in made_of:
        places = np.array([index.get(pack.id, -1) for pack in source.packs], dtype=np.int64)
        theirs, _, count = _frames_of(source)
        pack = places[packs_of_names(theirs)] if theirs.size else places
        count, theirs, pack = count[pack >= 0], offsets_of_names(theirs[pack >= 0]), pack[pack >= 0]
        theirs = names_of(pack, theirs)
        row = np.minimum(np.searchsorted(name, theirs), max(name.size - 1, 0))
        same = name[row] == theirs if name.size else np.zeros(0, np.bool_)
        held[row[same]] = np.maximum(held[row[same]], count[same])
    pack = packs_of_names(name)
    cuts = np.searchsorted(pack, np.arange(len(manifest.packs) + 1))
    columns = offsets_of_names(name), size, needed, held
    return [
        PackUse(ref, *(column[cuts[place] : cuts[place + 1]] for column in columns))
        for place, ref in enumerate(manifest.packs)
    ]


def _frames_of(manifest: ManifestReader) -> tuple[U64, U64, U64]:
    """(name, size, how many pages are named) of each frame of which any is, by name."""
    parts = [(np.empty(0, np.uint64),) * 3]
    for chunk in manifest.chunks():
        records, frames = chunk.records, chunk.frames
        some = records.frame != NO_FRAME
        pages = np.bincount(
            records.frame[some].astype(np.intp), weights=masks.counts(records.carried[some]), minlength=len(frames)
        )
        parts.append((names_of(frames.pack, frames.offset), frames.size.astype(np.uint64), pages.astype(np.uint64)))
    names, sizes, pages = (np.concatenate(column) for column in zip(*parts, strict=True))
    names, sizes, pages = names[pages > 0], sizes[pages > 0], pages[pages > 0]
    name, first, place = np.unique(names, return_index=True, return_inverse=True)
    return name, sizes[first], np.bincount(place, weights=pages, minlength=name.size).astype(np.uint64)


def worth(found: Sequence[PackUse], *, priced: bool) -> set[int]:
    """Which packs to rewrite, by index. priced: by what S3 asks for; otherwise where more comes back than is written.

    Small ones are put together if there are several, since each is an object of its own to every reader."""
    small = {index for index, use in enumerate(found) if use.ref.bytes < SMALL_BYTES}
    out = small if len(small) > 1 else set()
    for index, use in enumerate(found):
        if index not in out and use.dead_bytes > 0 and _pays(use, priced=priced):
            out.add(index)
    return out


def _pays(use: PackUse, *, priced: bool) -> bool:
    if not priced:
        return use.dead_bytes * WORTH > use.ref.bytes
    reads = sum(1 for _ in use.ranges())
    writes = use.live_bytes / PART_BYTES + 2 * use.live_bytes / PACK_BYTES
    cost = reads * GET_1000 / 1000 + writes * PUT_1000 / 1000
    # Besides, a byte is not to be written again for less than an eighth of it.
    return use.dead_bytes * MONTH_GB / 1e9 * MONTHS > cost and use.dead_bytes * WORTH > use.ref.bytes


@dataclass(slots=True, eq=False)
class Rewritten:
    """Where frames of rewritten packs lie now, or their pages. names: packs and offsets of before, ascending; packs,
    offsets, sizes: of now, by the index in `refs`."""

    refs: list[PackRef]
    names: U64
    packs: U64
    offsets: U64
    sizes: U64


class PackRewrite:
    """Of one disk. numbers: of the packs of this run, given out once."""

    def __init__(self, repository: Repository, vm: VmKey, run: RunId, numbers: Iterator[int], disk: int) -> None:
        self._repository, self._vm, self._run, self._numbers, self._disk = repository, vm, run, numbers, disk

    async def copy(self, manifest: ManifestReader, found: Sequence[PackUse], which: set[int]) -> Rewritten:
        """Write what is needed of these packs to new ones. IntegrityError of a frame that is damaged, or a pack that is
        missing; StoreError. Nothing of before is changed."""
        places: list[tuple[int, int, int, int]] = []  # name, pack, offset, size
        refs: list[PackRef] = []
        meant = np.zeros(len(found), dtype=np.bool_)
        meant[list(which)] = True
        joining = await in_thread(FrameJoining, manifest, meant)
        async with aclosing(self._frames(found, which, joining)) as frames:
            held = await anext(frames, None)
            while held is not None:
                identity = PackId(self._run, next(self._numbers))
                async with self._repository.store.upload(layout.pack_key(self._vm, identity)) as upload:
                    pack = _Pack(PackHeader(identity, self._disk), upload)
                    while held is not None and pack.bytes < PACK_BYTES:
                        names, data = held
                        places += [(name, len(refs), pack.bytes, len(data)) for name in names]
                        await pack.add(data)
                        held = await anext(frames, None)
                    await pack.finish()
                refs.append(PackRef(identity, upload.bytes, upload.crc32c, pack.sha256.digest()))
        columns = np.array(sorted(places), dtype=np.uint64).reshape(-1, 4)
        return Rewritten(refs, columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])

    async def _frames(self, found: Sequence[PackUse], which: set[int], joining: FrameJoining) -> AsyncGenerator[Joined]:
        """What to write, in order; a few ranges are read ahead."""
        todo = ((index, found[index], wanted) for index in sorted(which) for wanted in found[index].ranges())
        under_way: list[asyncio.Task[tuple[int, int, bytes, PackUse, slice]]] = []
        try:
            while True:
                while len(under_way) < AHEAD and (one := next(todo, None)) is not None:
                    under_way.append(asyncio.create_task(self._read(*one)))
                if not under_way:
                    break
                for joined in await in_thread(self._joined, joining, *await under_way.pop(0)):
                    yield joined
            for joined in await in_thread(list, joining.rest()):
                yield joined
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _joined(
        self, joining: FrameJoining, index: int, start: int, data: bytes, use: PackUse, frames: slice
    ) -> list[Joined]:
        """In a worker thread: what to write once these frames were read."""
        view = memoryview(data)
        out: list[Joined] = []
        where = self._repository.where(layout.pack_key(self._vm, use.ref.id))
        columns = use.offsets[frames].tolist(), use.sizes[frames].tolist(), use.needed[frames].tolist()
        for offset, size, needed in zip(*columns, strict=True):
            one = view[offset - start : offset - start + size]
            out += joining.take(index << 32 | offset, needed, one, f"{where}, offset {offset}")
        return out

    async def _read(
        self, index: int, use: PackUse, wanted: tuple[int, int, slice]
    ) -> tuple[int, int, bytes, PackUse, slice]:
        start, length, frames = wanted
        key = layout.pack_key(self._vm, use.ref.id)
        where = self._repository.where(key)

        async def proved(data: bytes) -> bytes:
            await in_thread(_prove, data, start, use.offsets[frames], use.sizes[frames], where)
            return data

        try:
            data = await read_sound(lambda: self._repository.store.get_range(key, start, length), proved)
        except FormatError as error:
            raise IntegrityError(
                error.what, where=error.where, hint="audit the repository; nothing that this names was dropped"
            ) from error
        return index, start, data, use, frames


def rewritten(
    manifest: ManifestReader, out: ManifestWriter, found: Sequence[PackUse], moved: Rewritten, which: set[int]
) -> list[PackRef]:
    """Write a manifest anew with the places that frames have now. Returns its packs, for the writer's end."""
    stays = [index for index in range(len(found)) if index not in which]
    number = np.zeros(len(found), dtype=np.uint32)
    number[stays] = np.arange(len(stays), dtype=np.uint32)
    for chunk in manifest.chunks():
        frames = chunk.frames
        pack, offset, size = number[frames.pack], frames.offset.copy(), frames.size.copy()
        if len(moved.names):
            name = names_of(frames.pack, frames.offset)
            row = np.minimum(np.searchsorted(moved.names, name), len(moved.names) - 1)
            goes = moved.names[row] == name
            pack[goes] = (moved.packs[row[goes]] + np.uint64(len(stays))).astype(np.uint32)
            offset[goes] = moved.offsets[row[goes]].astype(np.uint32)
            size[goes] = moved.sizes[row[goes]].astype(np.uint32)
        out.add(_once(replace(chunk, frames=ChunkFrames(pack, offset, size))))
    return [*(found[index].ref for index in stays), *moved.refs]


def _once(chunk: Chunk) -> Chunk:
    """With each frame that is used listed once, where several were put together."""
    frames, records = chunk.frames, chunk.records
    carries = records.frame != NO_FRAME
    of = records.frame[carries].astype(np.intp)
    _, first, place = np.unique(names_of(frames.pack, frames.offset)[of], return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(first.size, dtype=np.uint16)
    number[order] = np.arange(first.size, dtype=np.uint16)
    renumbered = records.frame.astype(np.uint16)
    renumbered[carries] = number[place]
    return replace(chunk, frames=frames.take(of[first[order]]), records=replace(records, frame=renumbered))


def _prove(data: bytes, start: int, offsets: U64, sizes: U64, where: str) -> None:
    """In a worker thread. FormatError unless each of these is one whole frame."""
    view = memoryview(data)
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        frame.decode(view[offset - start : offset - start + size], f"{where}, offset {offset}")


class _Pack:
    """One pack on its way up. bytes: of it until now. sha256: of what was handed over."""

    def __init__(self, header: PackHeader, upload: Upload) -> None:
        self._upload, self.sha256 = upload, hashlib.sha256()
        self._part = bytearray(header.encode())
        self.bytes = len(self._part)

    async def add(self, data: bytes | memoryview) -> None:
        self._part += data
        self.bytes += len(data)
        while len(self._part) >= PART_BYTES:
            await self._send(PART_BYTES)

    async def _send(self, count: int) -> None:
        part, self._part = self._part[:count], self._part[count:]
        self.sha256.update(part)
        await self._upload.write(part)

    async def finish(self) -> None:
        """Hand over the rest of it."""
        if self._part:
            await self._send(len(self._part))
