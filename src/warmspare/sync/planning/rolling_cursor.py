"""How far the rolling audit of a disk is; owns the arithmetic of its shares and rounds, and the note of them on this
host.

docs/audits.md, "Audits of a source".
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from warmspare.model.units import SPAN_BYTES
from warmspare.observe.events import Events
from warmspare.outside.records import Count, Seconds
from warmspare.state.local_files import STATE_DIRECTORY, read_record, write_record

if TYPE_CHECKING:
    from warmspare.model.extents import Extents

DAY_S = 86400.0
USUAL_TIMES = 2  # a sync makes up for no more than twice the time that is usual between syncs, or a day


class RollingCursor(msgspec.Struct, frozen=True):
    """How far the rolling audit of a disk is.

    span: of 1 MiB, where the next share begins. last_s: when the last sync was. usual_s: the time between the last two.
    owed_s: time whose share is still less than a span. round_spans: covered since round_began_s; whenever that is the
    whole disk, a round is done. covered_s: when the last round was done, 0.0 for never.
    """

    span: Count
    last_s: Seconds
    usual_s: Seconds = 0.0
    owed_s: Seconds = 0.0
    round_spans: Count = 0
    round_began_s: Seconds = 0.0
    covered_s: Seconds = 0.0

    @classmethod
    def read(cls, path: Path, events: Events) -> RollingCursor | None:
        """As it was left; None if it is lost."""
        return read_record(path, cls, STATE_DIRECTORY, events)

    def write(self, path: Path) -> None:
        write_record(path, self, STATE_DIRECTORY)

    @classmethod
    def anywhere(cls, capacity_bytes: int, now_s: float) -> RollingCursor:
        """A new one, at a random place: where state is lost again and again, no region is passed over for ever."""
        span = random.randrange(_spans(capacity_bytes))  # noqa: S311
        return cls(span, now_s, round_began_s=now_s)

    def compared(self, capacity_bytes: int, now_s: float) -> RollingCursor:
        """After a sync that compared all of the disk: that was a round."""
        return RollingCursor(
            min(self.span, _spans(capacity_bytes) - 1), now_s, max(now_s - self.last_s, 0.0), 0.0, 0, now_s, now_s
        )

    def share(self, capacity_bytes: int, period_s: float, now_s: float) -> tuple[Extents, RollingCursor]:
        """What is to be looked at now, block-aligned, and the cursor for afterwards.

        In proportion to the time since the last sync. Longer pauses than usual are not made up for: the round ends
        later by so much, and no sync after a pause has to read a large part of the disk.
        """
        total = _spans(capacity_bytes)
        passed = max(now_s - self.last_s, 0.0)
        owed = self.owed_s + min(passed, max(DAY_S, USUAL_TIMES * self.usual_s))
        spans = min(int(total * owed / period_s), total)
        owed = 0.0 if spans == total else owed - spans * period_s / total
        covered = self.round_spans + spans
        done = covered >= total
        first = min(self.span, total - 1)
        starts = [first, 0]
        counts = [min(spans, total - first), max(spans - (total - first), 0)]
        after = RollingCursor(
            (first + spans) % total,
            now_s,
            passed,
            owed,
            0 if done else covered,
            now_s if done or not self.round_began_s else self.round_began_s,
            now_s if done else self.covered_s,
        )
        import numpy as np  # here, as the next: who only asks how far it is needs no arrays

        from warmspare.model.extents import normalise

        offsets = np.array(starts, dtype=np.int64) * SPAN_BYTES
        ends = np.minimum(offsets + np.array(counts, dtype=np.int64) * SPAN_BYTES, capacity_bytes)
        return normalise(offsets, ends - offsets), after


def _spans(capacity_bytes: int) -> int:
    return -(-capacity_bytes // SPAN_BYTES)
