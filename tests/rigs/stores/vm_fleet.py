"""A repository of many VMs in memory, with nothing but restore point records, an index and failovers: for what is asked
of all of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rigs.stores.memory_store import MemoryStore
from warmspare.format import flags, index_shard, repofile, restore_point
from warmspare.format.index_shard import IndexShard, WholeMark, entry_of, shards_of
from warmspare.format.repofile import RepositoryRecord
from warmspare.format.restore_point import Disk, ObjectRef, RestorePoint
from warmspare.model.ids import PointId, RunId, VmId, vm_key
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import FailoverRecord, State, encode
from warmspare.store import layout

ID = "c" * 32
REF = ObjectRef("vms/v/manifests/r/000.manifest", 10, "0" * 64, 5)


def uuid_of(number: int) -> VmId:
    return VmId(f"5012{number:04x}-0000-4000-8000-{number:012x}")


def ago(seconds: float) -> str:
    """The moment that was so long ago."""
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class VmFleet:
    """store: of the repository. heads: the newest point of each VM."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.store = MemoryStore(latency_s)
        self.repository = Repository(self.store, ID)
        self.heads: dict[VmId, Point] = {}
        self.store.keep(layout.repository_key(), repofile.encode(RepositoryRecord(1, 0, ID, "2026")))
        self.store.keep(layout.index_whole_key(), index_shard.encode(WholeMark(1, 0, ID)))

    def point(self, vm: VmId, name: str, *, age_s: float = 60.0, noted: bool = True) -> Point:
        """One more point of a VM, made so long ago. noted: whether the index knows."""
        before = self.heads.get(vm)
        made = RestorePoint(
            flags.VERSION,
            0,
            vm,
            name,
            before.id.sequence + 1 if before else 1,
            before.id.sha256 if before else None,
            RunId("b" * 32),
            ago(age_s),
            "x",
            [Disk("d", "d.raw", 5 << 30, "a" * 64, REF, 7)],  # type: ignore[arg-type]
            1,
            2,
            3,
            [],
        )
        data = restore_point.encode(made)
        key = layout.point_key(vm_key(vm), made.sequence)
        self.store.keep(key, data)
        self.store.objects[key] = data, time.time() - age_s
        self.heads[vm] = Point(PointId(made.sequence, restore_point.identity(data)), made, data)
        if noted:
            for number in shards_of(vm, name):
                self.write(number, self.shard(number).having(entry_of(made, self.heads[vm].id.sha256)))
        return self.heads[vm]

    def many(self, count: int) -> None:
        """So many VMs with a point each, called `vm 0` and so on."""
        for number in range(count):
            self.point(uuid_of(number), f"vm {number}")

    def shard(self, number: int) -> IndexShard:
        """As it stands there; an empty, whole one where none does."""
        key = layout.index_key(number)
        if key not in self.store.objects:
            return IndexShard(1, 0, ID, True)
        return index_shard.decode(self.store.objects[key][0], number, ID, key)

    def write(self, number: int, shard: IndexShard | bytes) -> None:
        data = shard if isinstance(shard, bytes) else index_shard.encode(shard)
        self.store.keep(layout.index_key(number), data)

    def forget_index(self) -> None:
        """As in a repository of before."""
        for key in [key for key in self.store.objects if key.startswith(layout.index_prefix())]:
            self.store.forget(key)

    def fail_over(self, vm: VmId, state: State) -> None:
        """Its record, in that state."""
        point = self.heads[vm].id
        record = FailoverRecord(
            1, 0, vm, RunId("d" * 32), state, point.sequence, point.sha256, "eu-central-1", "register-image", ago(600)
        )
        self.store.keep(layout.failover_key(vm_key(vm)), encode(record))
