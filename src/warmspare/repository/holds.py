"""Holds on restore points: made, read and taken away; refuses to take one that it can't read for none.

A hold is an object of its own under a key that nobody else has, so that several may hold a point and none can be
written over. Whoever makes one looks again whether the point still stands after it is there; whoever drops a point says
so first and looks for holds after that. So of the two at least one sees the other.
"""

from __future__ import annotations

import datetime
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from warmspare.errors import ConfigError, FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format import flags
from warmspare.format.retained import hold
from warmspare.format.retained.hold import Hold
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.outside.text import shown
from warmspare.repository.chain import Point, Repository, now_text
from warmspare.repository.history import retained
from warmspare.side_by_side import side_by_side
from warmspare.state.report_chain import software
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo

MOST_HOLDS = 10_000  # of a VM
AT_ONCE = 32


class PointDroppedError(ConfigError):
    """The restore point is gone, or is going."""


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """A hold where it lies. sequence: of its restore point, by its key. token: 16 hex digits, its name among the holds
    of the point. hold: None where it can't be read, and damage says why."""

    key: str
    sequence: int
    token: str
    hold: Hold | None
    damage: str = ""

    @property
    def reason(self) -> str:
        """In words; of a damaged one that it is."""
        return self.hold.reason if self.hold is not None else f"the hold {self.token} can't be read"

    def is_over(self, now_s: float) -> bool:
        """Whether its end is past by a clock, Unix seconds; never without an end, or where it can't be read."""
        if self.hold is None or self.hold.until is None:
            return False
        return datetime.datetime.fromisoformat(self.hold.until).timestamp() <= now_s


async def holds_of(repository: Repository, vm: VmId) -> list[PlacedHold]:
    """All of a VM, by point; also those that have ended. StoreError; IntegrityError where there are too many to be
    ours."""
    found: list[tuple[ObjectInfo, int, str]] = []
    async for info in repository.store.list(layout.holds_prefix(vm_key(vm))):
        if (named := layout.parse_hold_key(info.key)) is not None:
            found.append((info, *named))
        if len(found) > MOST_HOLDS:
            raise IntegrityError(
                f"VM {vm!r} has more than {MOST_HOLDS} holds",
                where=repository.where(layout.holds_prefix(vm_key(vm))),
                hint="find out who writes here, and remove what is none",
            )

    async def read(one: tuple[ObjectInfo, int, str]) -> PlacedHold | None:
        return await _read(repository, vm, *one)

    return [one for one in await side_by_side(read, found, AT_ONCE) if one is not None]


async def _read(repository: Repository, vm: VmId, info: ObjectInfo, sequence: int, token: str) -> PlacedHold | None:
    """None where it was taken away meanwhile."""
    where = repository.where(info.key)
    if info.bytes > hold.MAX_HOLD_BYTES:
        return PlacedHold(info.key, sequence, token, None, f"it has {info.bytes} bytes")
    try:
        data = await repository.store.get(info.key, max_bytes=hold.MAX_HOLD_BYTES)
        found = hold.decode(data, where)
    except NotFoundError:
        return None
    except FormatError as error:
        return PlacedHold(info.key, sequence, token, None, error.what)
    except StoreError as error:
        if error.retryable:
            raise
        return PlacedHold(info.key, sequence, token, None, error.what)
    if (found.vm_id, found.sequence) != (vm, sequence):
        other = f"it is of restore point {found.sequence} of VM {found.vm_id!r}, and was moved here"
        return PlacedHold(info.key, sequence, token, None, other)
    return PlacedHold(info.key, sequence, token, found)


async def standing(repository: Repository, placed: Sequence[PlacedHold]) -> list[PlacedHold]:
    """Those that have not ended. One has ended where both this host's clock and the store's say so; where the store
    does not tell the time none has. StoreError."""
    local_s = time.time()
    if not any(one.is_over(local_s) for one in placed):
        return list(placed)
    try:
        now_s = min(local_s, await repository.store.now())
    except StoreError as error:
        if error.retryable:
            raise
        return list(placed)
    return [one for one in placed if not one.is_over(now_s)]


def reasons(placed: Sequence[PlacedHold]) -> dict[int, tuple[str, ...]]:
    """Why each restore point is held, by sequence. placed: those that stand. One that can't be read holds its point."""
    found: dict[int, tuple[str, ...]] = {}
    for one in placed:
        found[one.sequence] = (*found.get(one.sequence, ()), one.reason)
    return found


async def add_hold(repository: Repository, point: Point, reason: str, until: str | None) -> PlacedHold:
    """Hold a restore point. until: RFC 3339 in UTC. PointDroppedError where it was dropped meanwhile: then the hold is
    taken away again, as far as the store lets us, and holds nothing in any case. StoreError."""
    vm, (sequence, sha256), token = point.record.vm_id, msgspec.structs.astuple(point.id), secrets.token_hex(8)
    host = shown(socket.gethostname())
    made = Hold(flags.VERSION, 0, vm, sequence, sha256, reason, now_text(), until, host, software())
    key = layout.hold_key(vm_key(vm), sequence, token)
    await repository.store.create(key, hold.encode(made))
    if await is_dropped(repository, vm, point.id):
        try:
            await repository.store.delete([key])
        except StoreError as error:
            if error.retryable:
                raise
        raise PointDroppedError(
            f"restore point {point.id.label} of VM {vm!r} was removed before it could be held",
            where=repository.where(layout.point_key(vm_key(vm), point.id.sequence)),
            hint="hold another: `warmspare points` lists those that stand",
        )
    return PlacedHold(key, point.id.sequence, token, made)


async def is_dropped(repository: Repository, vm: VmId, point: PointId) -> bool:
    """Whether the restore point is gone, or is going: that a retention record drops it is the first step of it."""
    record = await retained.newest(repository, vm)
    if record is not None and record.record.dropped(point.sequence):
        return True
    try:
        return (await repository.load(vm, point.sequence)).id != point
    except NotFoundError:
        return True


async def remove_holds(repository: Repository, placed: Sequence[PlacedHold]) -> None:
    """Take them away. StoreError."""
    await repository.store.delete([one.key for one in placed])
