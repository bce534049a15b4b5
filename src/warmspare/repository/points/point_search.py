"""The newest restore point that was made by some moment, found by halving; refuses to read all records for it.

Points ascend in time as they do in number, but for clocks that were wrong. So none is taken by its own word alone: of
three neighbours the one in the middle counts, and none does that says less than one before it, or more than one after
it, that counted. A time that the store's own date of the record shows to be too late counts as that date.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmspare.errors import FormatError, IntegrityError, NotFoundError
from warmspare.model.ids import VmId, vm_key
from warmspare.side_by_side import side_by_side
from warmspare.store import layout

if TYPE_CHECKING:
    from warmspare.repository.chain import Repository

PAGE = 1000  # keys that a store lists in one answer
AHEAD_S = 300.0  # by which a clock may be ahead of the store's
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Listed:
    """number: of a restore point. stored_s: since when the store has its record, Unix seconds."""

    number: int
    stored_s: float


class PointSearch:
    """Of one VM. until_s: the moment, Unix seconds."""

    def __init__(self, repository: Repository, vm: VmId, until_s: float) -> None:
        self._repository, self._vm, self._until_s = repository, vm, until_s
        self._times: dict[int, float | None] = {}
        self._from_s, self._to_s = float("-inf"), float("inf")  # what counts lies between these

    async def run(self, newest: int) -> int | None:
        """Its sequence; None where all are younger. newest: that of the newest point there is. StoreError."""
        low, high = 0, newest + 1  # low is old enough, or none; high is too young, or none
        oldest = await side_by_side(self._time, (await self._page(1, high))[:3], AT_ONCE)
        self._from_s = min((made_s for made_s in oldest if made_s is not None), default=self._from_s) - AHEAD_S
        middle = max(high - PAGE, 1)  # mostly a moment not long ago is meant
        while high - max(low, 1) > PAGE:
            page = await self._page(middle, high)
            place = min(1, len(page) - 1)  # with a neighbour on each side
            if page and await self._is_old_enough(page[:3], place):
                low = page[place].number
            else:
                high = page[place].number if page else middle
            middle = (low + high) // 2
        page = await self._page(max(low, 1), high)
        first, last = (
            0,
            len(page),
        )  # places in the page: those before first are old enough, those from last on too young
        while first < last:
            place = (first + last) // 2
            if await self._is_old_enough(page, place):
                first = place + 1
            else:
                last = place
        while first:
            first -= 1
            made_s = await self._time(page[first])
            before_s = await self._time(page[first - 1]) if first else None
            # What its neighbours outvoted is not meant; nor is what says less than the one before it, which is older.
            back = made_s is not None and before_s is not None and made_s + AHEAD_S < before_s <= self._until_s
            if made_s is not None and self._fits(made_s) and made_s <= self._until_s and not back:
                return page[first].number
        return None

    async def _page(self, first: int, end: int) -> list[Listed]:
        """Points from first on and before end, as many as the store lists at once."""
        key, found = vm_key(self._vm), list[Listed]()
        async for info in self._repository.store.list(
            layout.points_prefix(key), start_after=layout.point_key(key, first - 1)
        ):
            number = layout.parse_point_key(info.key)
            if number is not None and number < end:
                found.append(Listed(number, info.modified_s))
            if number is None or number >= end - 1 or len(found) == PAGE:
                break
        return found

    async def _is_old_enough(self, page: list[Listed], place: int) -> bool:
        """Whether the point in that place was made by then, as far as its neighbours bear it out. Where that can't be
        told it counts as too young: what is before it is older."""
        near = await side_by_side(self._time, page[max(place - 1, 0) : place + 2], AT_ONCE)
        own_s = await self._time(page[place])
        if len(near) == 3 and all(self._fits(made_s) for made_s in near):
            own_s = sorted(made_s for made_s in near if made_s is not None)[1]
        elif not self._fits(own_s):
            own_s = await self._around(page, place)
        if own_s is None:
            return False
        if own_s <= self._until_s:
            self._from_s = max(self._from_s, own_s - AHEAD_S)
        else:
            self._to_s = min(self._to_s, own_s + AHEAD_S)
        return own_s <= self._until_s

    def _fits(self, made_s: float | None) -> bool:
        return made_s is not None and self._from_s <= made_s <= self._to_s

    async def _around(self, page: list[Listed], place: int) -> float | None:
        """Of a point that says nothing: the time of the nearest one after it that was made by then, or before it that
        was not; None where neither is."""
        reach, before, after = 1, place, place + 1
        while before > 0 or after < len(page):
            further = page[after : after + reach]
            for made_s in await side_by_side(self._time, further, AT_ONCE):
                if made_s is not None and self._fits(made_s):
                    if made_s <= self._until_s:
                        return made_s
                    after = len(page)
                    break
            earlier = page[max(before - reach, 0) : max(before, 0)][::-1]
            for made_s in await side_by_side(self._time, earlier, AT_ONCE):
                if made_s is not None and self._fits(made_s):
                    if made_s > self._until_s:
                        return made_s
                    before = 0
                    break
            before, after, reach = before - len(earlier), after + len(further), reach * 2
        return None

    async def _time(self, one: Listed) -> float | None:
        """When it was made, Unix seconds; None where its record can't be read."""
        if one.number not in self._times:
            try:
                record = (await self._repository.load(self._vm, one.number)).record
            except (NotFoundError, IntegrityError, FormatError):
                self._times[one.number] = None
            else:
                made_s = datetime.datetime.fromisoformat(record.created).timestamp()
                self._times[one.number] = min(made_s, one.stored_s + AHEAD_S)
        return self._times[one.number]
