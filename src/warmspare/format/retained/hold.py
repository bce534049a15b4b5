"""A hold: that a restore point is not to be removed, why, and until when; owns its JSON and its rules.

docs/format.md, "Hold".
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.model.ids import PointId, VmId
from warmspare.outside import records
from warmspare.outside.records import Line, Moment, Sequence, Sha256, UnfitError

MAX_HOLD_BYTES = 64 << 10
REASON_CHARS = 1000

Reason = Annotated[str, msgspec.Meta(max_length=REASON_CHARS)]


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """sequence, sha256: the restore point, and its record. created: when it was made, by the clock of host. until: when
    it ends; None: never by itself."""

    format: int
    flags: int
    vm_id: VmId
    sequence: Sequence
    sha256: Sha256
    reason: Reason
    created: Moment
    until: Moment | None
    host: Line
    software: Line

    @property
    def point(self) -> PointId:
        return PointId(self.sequence, self.sha256)


def encode(hold: Hold) -> bytes:
    return msgspec.json.format(msgspec.json.encode(hold), indent=1) + b"\n"


def decode(data: bytes, where: str) -> Hold:
    """FormatError on anything that breaks the rules."""
    try:
        hold = flags.decode(data, Hold, "hold", where)
    except UnfitError as error:
        raise FormatError(f"the hold is damaged: {error}", where=where) from None
    if not all(records.is_moment(moment) for moment in (hold.created, hold.until) if moment is not None):
        raise FormatError("the hold is damaged: it names a day that no calendar has", where=where)
    return hold
