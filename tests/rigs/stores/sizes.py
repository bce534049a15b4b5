"""What a repository in memory is made of: bytes by kind, and how much of its frames anybody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rigs.stores.memory_store import MemoryStore
from warmspare.format import frame
from warmspare.format.manifest import ManifestReader
from warmspare.model.ids import VmId, vm_key
from warmspare.model.units import BLOCK_PAGES
from warmspare.store import layout


@dataclass(frozen=True, slots=True)
class Sizes:
    """objects, by_kind: how many, and bytes; packs among the kinds. frames, needed: bytes of the frames that some
    manifest names; and as many of these as are their needed pages' share. live_pages: that are named."""

    objects: int
    by_kind: dict[str, int]
    frames: int
    needed: int
    live_pages: int

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())

    def words(self) -> str:
        kinds = ", ".join(f"{kind} {size}" for kind, size in sorted(self.by_kind.items()))
        return (
            f"{self.total} bytes ({kinds}; frames {self.frames}, needed of these {self.needed}), {self.objects} objects"
        )


def sizes_of(store: MemoryStore, vm: VmId) -> Sizes:
    """Of a repository with one VM, whose manifests are all needed."""
    prefix = layout.vm_prefix(vm_key(vm))
    kinds: Counter[str] = Counter()
    for key, (data, _) in store.objects.items():
        kind = key.removeprefix(prefix).partition("/")[0] if key.startswith(prefix) else "beside"
        kinds["descents" if key.endswith(".descent") else kind] += len(data)
    named: dict[tuple[str, int], set[int]] = {}
    for key, (data, _) in store.objects.items():
        if key.endswith(".manifest"):
            reader = ManifestReader(lambda at, count, data=data: data[at : at + count], len(data), key)  # type: ignore[misc]
            for pack, offset, pages in frames_named(reader):
                named.setdefault((layout.pack_key(vm_key(vm), reader.packs[pack].id), offset), set()).update(pages)
    frames = needed = live = 0
    for (pack_key, offset), pages in named.items():
        data = store.objects[pack_key][0]
        size = frame.frame_bytes(memoryview(data)[offset:], pack_key)
        held = frame.decode(data[offset : offset + size], pack_key).pages.size
        frames, live = frames + size, live + len(pages)
        needed += size * len(pages) // held
    return Sizes(len(store.objects), dict(kinds), frames, needed, live)


def frames_named(reader: ManifestReader) -> Iterator[tuple[int, int, list[int]]]:
    """(index of the pack, offset of the frame, pages that are named of it)."""
    for chunk in reader.chunks():
        records = chunk.records
        for block, mask, number in zip(
            records.block.tolist(), records.carried.tolist(), records.frame.tolist(), strict=True
        ):
            if mask:
                pages = [block * BLOCK_PAGES + bit for bit in range(BLOCK_PAGES) if mask >> bit & 1]
                yield int(chunk.frames.pack[number]), int(chunk.frames.offset[number]), pages
