"""What lies in a repository: the objects of each VM by kind, uploads that never ended, whether a run is at work.

Owns the listing and the telling apart of keys; judges nothing by itself. What a restore point names is taken out as
it is met, and what is left in the end nobody names.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from warmspare.errors import NotFoundError, StoreError
from warmspare.model.ids import VmKey
from warmspare.store import layout
from warmspare.store.contract import StaleUpload, Store
from warmspare.store.lease import CLOCK_GRAIN_S, TTL_S, Holder

_RUN = re.compile(r"(packs|manifests|tables)/([0-9a-f]{32})/([0-9]{3,6})\.(pack|manifest|table)")
_FORMS = {"packs": (6, "pack"), "manifests": (3, "manifest"), "tables": (3, "table")}
_KINDS = tuple(_FORMS)
_POINT = re.compile(r"points/([0-9]{10})\.json")
_MARK = re.compile(r"marks/[0-9]{10}-[0-9a-f]{16}\.json")
_FOLDED = re.compile(r"folds/[0-9a-f]{32}/[0-9]{10}-(?:[0-9]{3}\.manifest|[0-9]{5}\.descent)")
_HOLD = re.compile(r"holds/[0-9]{10}-[0-9a-f]{16}\.json")
_LEASE_BYTES = 16 << 10


@dataclass(slots=True)
class VmContents:
    """One VM. points: sequences, ascending. marks: keys of what the next sync is to read again. generations: of
    retention records, ascending. foreign: keys that no version of the format gives. uploads: None where we may not list
    them, no_uploads: why. live: whether a run may be at work. unnamed: by (kind, run, number), packed: when the store
    got the object, and its size. folded: the same by key, of what stands for points that were let go."""

    vm: VmKey
    points: list[int] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    uploads: list[StaleUpload] | None = None
    no_uploads: StoreError | None = None
    live: bool = False
    newest_s: float = 0.0  # when the store got the newest record
    unnamed: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    folded: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return layout.vm_prefix(self.vm)

    def name(self, key: str) -> None:
        """A restore point names this object, or what stands for one."""
        packed = _pack(key.removeprefix(self.prefix))
        if packed is not None:
            self.unnamed.pop(packed, None)
        self.folded.pop(key, None)

    def unclaimed(self, key: str) -> bool:
        """Whether the object is there, and nothing has named it yet."""
        return key in self.folded or _pack(key.removeprefix(self.prefix)) in self.unnamed

    def left(self) -> list[tuple[str, int, int]]:
        """(key, when the store got it, bytes) of what nothing names."""
        of_runs = [(self.prefix + _unpack(packed), *what) for packed, what in sorted(self.unnamed.items())]
        return of_runs + [(key, *what) for key, what in sorted(self.folded.items())]


def _pack(below: str) -> bytes | None:
    """A few bytes for a key below a VM's prefix, since there may be a million; None if it is no run's object."""
    match = _RUN.fullmatch(below)
    if not match or _FORMS[match[1]] != (len(match[3]), match[4]):
        return None
    return bytes([_KINDS.index(match[1])]) + bytes.fromhex(match[2]) + int(match[3]).to_bytes(4, "big")


def _unpack(packed: bytes) -> str:
    kind = _KINDS[packed[0]]
    digits, suffix = _FORMS[kind]
    return f"{kind}/{packed[1:17].hex()}/{int.from_bytes(packed[17:], 'big'):0{digits}d}.{suffix}"


async def take(store: Store, vm: VmKey) -> VmContents:
    """List all of one VM."""
    found = VmContents(vm)
    # Asked before the listing and after it: what a run that lives now puts there later is in no listing of ours.
    found.live = await _at_work(store, vm)
    async for info in store.list(found.prefix):
        below = info.key.removeprefix(found.prefix)
        packed = _pack(below)
        if packed is not None:
            found.unnamed[packed] = (int(info.modified_s), info.bytes)
        elif match := _POINT.fullmatch(below):
            found.points.append(int(match[1]))
            found.newest_s = info.modified_s
        elif (generation := layout.parse_retention_key(info.key)) is not None:
            found.generations.append(generation)
        elif _FOLDED.fullmatch(below):
            found.folded[info.key] = (int(info.modified_s), info.bytes)
        elif _MARK.fullmatch(below):
            found.marks.append(info.key)
        elif not _HOLD.fullmatch(below) and info.key not in (
            layout.lease_key(vm),
            layout.prune_lease_key(vm),
            layout.failover_key(vm),
        ):
            found.foreign.append(info.key)
    try:
        found.uploads = await store.stale_uploads(found.prefix)
    except StoreError as error:
        if error.retryable:
            raise
        found.no_uploads = error
    found.live = found.live or await _at_work(store, vm) or await _newer_point(store, found)
    return found


async def _newer_point(store: Store, found: VmContents) -> bool:
    """Whether a run published since: what we saw of it would look like nobody's."""
    after = layout.point_key(found.vm, found.points[-1]) if found.points else ""
    async for _ in store.list(layout.points_prefix(found.vm), start_after=after):
        return True
    return False


async def _at_work(store: Store, vm: VmKey) -> bool:
    """Whether a sender may be, or one who lets points go."""
    return await lease_lives(store, layout.lease_key(vm)) or await lease_lives(store, layout.prune_lease_key(vm))


async def lease_lives(store: Store, key: str) -> bool:
    """Whether somebody may hold it; a lease that can't be read counts as held."""
    info = await store.head(key)
    if info is None:
        return False
    try:
        holder = Holder.decode(await store.get(key, max_bytes=_LEASE_BYTES))
    except NotFoundError:
        return False
    if holder is not None and (holder.free or holder.is_dead):
        return False
    try:
        now = await store.now()
    except StoreError:
        now = time.time()  # a directory that is mounted for reading only
    return now <= info.modified_s + (holder.lifetime_s if holder else TTL_S) + CLOCK_GRAIN_S


async def vms(store: Store) -> tuple[list[VmKey], list[str]]:
    """(all VMs that have objects, keys beside them that the format does not know)."""
    names: list[VmKey] = []
    strange: list[str] = []
    prefix = layout.all_vms_prefix()
    async for key in _keys(store, "", prefix):
        of_index = layout.parse_index_key(key) is not None or key == layout.index_whole_key()
        if not of_index and key != layout.repository_key() and not key.startswith(layout.probes_prefix()):
            strange.append(key)
    after = prefix
    while (first := await _first(store, prefix, after)) is not None:
        vm = layout.vm_of_key(first)
        if vm is None:
            strange.append(first)
            after = first
        else:
            names.append(vm)
            after = layout.vm_prefix(vm)[:-1] + "0"  # "0" follows "/": past all of this VM's keys
    async for key in _keys(store, prefix[:-1] + "0", None):
        strange.append(key)
    return names, strange


async def _first(store: Store, prefix: str, after: str) -> str | None:
    async for info in store.list(prefix, start_after=after):
        return info.key
    return None


async def _keys(store: Store, after: str, stop: str | None) -> AsyncIterator[str]:
    async for info in store.list("", start_after=after):
        if stop is not None and info.key >= stop:
            return
        yield info.key
