"""From a limit, or a repository's timetable, to a store that keeps to it; owns where the host's bucket lies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmspare.config.timetable import Timetable
    from warmspare.engine.host_places import HostPlaces
    from warmspare.store.contract import Store

BUCKET = "limit"  # in the default state directory, whatever --state says: it is the host's, not a VM's


@contextlib.contextmanager
def kept(store: Store, limit: float | None, host: HostPlaces, timetable: Timetable | None = None) -> Iterator[Store]:
    """The store, sent to no faster than `limit`, or without one than the timetable says at the time. StoreError if the
    host's bucket can't be used."""
    if limit is None and (timetable is None or not timetable.periods):
        yield store
        return

    def rate() -> float | None:
        return limit if timetable is None or limit is not None else timetable.rate(time.localtime())

    from warmspare.state.bucket import SharedBucket
    from warmspare.store.around.limiter import Limiter, limited

    with SharedBucket(host.root / BUCKET) as bucket:
        yield limited(store, Limiter(bucket, rate).take)
