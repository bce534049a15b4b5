"""Damage to the objects of a repository, drawn at random and proved to be damage; knows which of it can be seen how."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from rig import KIB, MIB, Rig, random_disk, scribble
from warmspare.format import pack
from warmspare.model.ids import PackId
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.opening import open_store
from warmspare.sync import diskrun

RUN = "0123456789abcdef" * 2
Objects = dict[str, bytes]


def build(home: Path, *, points: int = 5, seed: int = 11) -> Rig:
    """A repository with two VMs, one of two disks, with checkpoints, and packs that a later point uses again."""
    rng = random.Random(seed)
    rig = Rig(home)
    disks = [home / "a.raw", home / "b.raw"]
    for disk, size in zip(disks, (24 * MIB + 5000, 20 * MIB), strict=True):
        random_disk(disk, size, rng, pieces=25)
    kept, diskrun.CHECKPOINT_POINTS = diskrun.CHECKPOINT_POINTS, 2
    try:
        for number in range(points):
            rig.sync(disks=list(disks))
            for disk in disks:
                scribble(disk, rng, pieces=8, most=60 * KIB)
            if number == 2:  # grown, from a short last block on
                with disks[0].open("r+b") as file:
                    file.truncate(26 * MIB + 100)
    finally:
        diskrun.CHECKPOINT_POINTS = kept
    other = Rig(home, vm="other")
    random_disk(other.disk, 3 * MIB, rng, pieces=5)
    other.sync()
    return rig


async def objects_of(store: Store) -> Objects:
    """Every object and its bytes; without leases, and without the index, which is no part of what was written."""
    return {
        info.key: await store.get(info.key)
        async for info in store.list("")
        if not info.key.endswith("/lease.json") and not info.key.startswith(layout.index_prefix())
    }


async def put_back(store: Store, wanted: Objects, changed: set[str]) -> None:
    """Undo a damage."""
    await store.delete([key for key in changed if key not in wanted])
    for key in changed & wanted.keys():
        await store.put(key, wanted[key])


def kind_of(key: str) -> str:
    """packs, manifests, tables, points, folds, retention, or the repository's own record."""
    parts = key.split("/")
    return parts[2] if len(parts) > 3 else "repository"


@dataclass(frozen=True, slots=True)
class Damage:
    """what: for a failure's message. keys: those that differ now. extra: those that were not there. unseen: of keys,
    those that show only by reading them where the store keeps no checksum."""

    what: str
    keys: set[str]
    extra: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)


def _hidden(key: str, before: bytes, after: bytes | None) -> bool:
    """Whether only a pack's bytes tell: same length, and the header is its own."""
    size = pack.HEADER.size
    return kind_of(key) == "packs" and after is not None and len(after) == len(before) and after[:size] == before[:size]


async def damage(store: Store, whole: Objects, rng: random.Random) -> Damage:
    """Do one. Every byte that is claimed to differ does."""
    by_kind: dict[str, list[str]] = {}
    for key in sorted(whole):
        by_kind.setdefault(kind_of(key), []).append(key)
    kinds = ["packs", "packs", "packs", "manifests", "manifests", "tables", "points", "points", "repository"]
    kind = rng.choice(kinds + [kind for kind in ("folds", "folds", "retention") if kind in by_kind])
    key = rng.choice(by_kind[kind])
    act = rng.choice(["missing", "cut", "longer", "flipped", "flipped", "zeroed", "swapped", "replayed", "extra"])
    data = whole[key]
    changed: dict[str, bytes | None] = {}
    if act == "missing":
        changed[key] = None
    elif act == "cut":
        changed[key] = data[: rng.randrange(len(data))]
    elif act == "longer":
        changed[key] = data + rng.randbytes(rng.randrange(1, 200))
    elif act == "flipped":
        at = rng.randrange(len(data))
        changed[key] = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    elif act == "zeroed":
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.randrange(1, 5000))
        changed[key] = data[:at] + bytes(end - at) + data[end:]
    elif act in ("swapped", "replayed"):
        others = [one for one in by_kind[kind] if whole[one] != data]
        if others:
            other = rng.choice(others)
            changed[key] = whole[other]
            if act == "swapped":
                changed[other] = data
    elif act == "extra":
        return await _extra(store, whole, rng)
    changed = {one: after for one, after in changed.items() if after != whole[one]}
    if not changed:
        return await damage(store, whole, rng)
    for one, after in changed.items():
        if after is None:
            await store.delete([one])
        else:
            await store.put(one, after)
            assert await store.get(one) == after != whole[one]
    unseen = {one for one, after in changed.items() if _hidden(one, whole[one], after)}
    return Damage(f"{act}: {', '.join(changed)}", set(changed), unseen=unseen)


async def _extra(store: Store, whole: Objects, rng: random.Random) -> Damage:
    runs = {key.split("/")[3] for key in whole if kind_of(key) in ("packs", "manifests")}
    vm = rng.choice(["vm", "other"])
    run = rng.choice([RUN, *sorted(runs)])
    key = rng.choice(
        [
            layout.pack_key(vm, PackId(run, 900)),
            layout.manifest_key(vm, run, 77),
            layout.table_key(vm, run, 77),
            layout.point_key(vm, 6 if vm == "vm" else 2),
            f"vms/{vm}/notes.txt",
            f"vms/{vm}/packs/{run}/1.pack",
            f"vms/{vm}/packs/nobody/000001.pack",
            "readme.txt",
            "vms/stray",
            "zzz/more",
        ]
    )
    assert key not in whole
    await store.put(key, rng.choice([b"something", whole[rng.choice(sorted(whole))]]))
    return Damage(f"extra: {key}", {key}, extra={key})


def directory(rig: Rig) -> DirectoryStore:
    store = open_store(rig.repo)
    assert isinstance(store, DirectoryStore)
    return store


async def upload(store: Store, whole: Objects) -> None:
    """A copy of a repository in another store, several at a time."""
    todo = iter(whole.items())

    async def work() -> None:
        for key, data in todo:
            await store.put(key, data)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(work())
