"""Records of dropped points written to the store, in parts; owns which parts are used again as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import crc32c

from warmspare.format.restore_point import ObjectRef
from warmspare.format.retained import dropped_records
from warmspare.model.ids import RunId, VmId, vm_key
from warmspare.repository.chain import Point, Repository
from warmspare.store import layout


async def write_descent(
    repository: Repository, vm: VmId, run: RunId, target: int, points: Sequence[Point], *, first_part: int = 0
) -> list[ObjectRef]:
    """The records of consecutive points as objects of a run that nobody else has. first_part: of those that are
    counted already. StoreError."""
    out: list[ObjectRef] = []
    sizes = [len(point.stored) for point in points]
    for number, some in enumerate(dropped_records.parts(sizes), first_part):
        data = dropped_records.encode(points[some.start].id.sequence, [point.stored for point in points[some]])
        key = layout.descent_key(vm_key(vm), run, target, number)
        await repository.store.put(key, data)
        out.append(ObjectRef(key, len(data), hashlib.sha256(data).hexdigest(), crc32c.crc32c(data)))
    return out
