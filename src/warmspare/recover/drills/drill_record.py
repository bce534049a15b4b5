"""What is kept of each drill, of one VM or of a whole plan: a plain record; owns the model and its JSON.

docs/format.md, "Drill record". Records of a host lie in a chain (state/report_chain.py), from which trends are drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from warmspare.errors import WarmspareError
from warmspare.model.ids import VmId
from warmspare.outside import records
from warmspare.outside.records import Count, Line, Seconds, SequenceOrNone, Sha256OrNone
from warmspare.state.report_chain import MOST_REPORTS, Form, Reports, decoded

FORMAT = 1
MAX_RECORD_BYTES = 4 << 20
LINE_LETTERS = 4000

DrillKind = Literal["qemu", "ec2"]
Result = Literal["passed", "late", "failed", "not judged"]


class DrillStep(msgspec.Struct, frozen=True):
    """One VM of a drill. point, sequence, sha256, created: the restore point; empty and 0 where none was found.

    order, delay_seconds, ready: as the plan has them; ready is "" for a drill without one. result: `late` is one that
    came up in EC2, and not within the RTO. exit_code: that of this VM alone. Of the seconds, due, ready and up count
    from the moment the whole began; null where that was not reached. waited: of them, for room on this host. boot: from
    power-on to being judged up. evidence: the folder, verdict_sha256 of its verdict.json.
    """

    vm: VmId
    vm_name: Line
    point: Line
    sequence: SequenceOrNone
    sha256: Sha256OrNone
    created: Line
    order: Count
    delay_seconds: Seconds
    ready: Line
    result: Result
    reason: Line
    exit_code: Count
    due_seconds: Seconds | None
    waited_seconds: Seconds
    ready_seconds: Seconds | None
    up_seconds: Seconds | None
    boot_seconds: Seconds | None
    rto_seconds: Seconds | None
    within: bool | None
    evidence: Line
    verdict_sha256: Sha256OrNone


class DrillRecord(msgspec.Struct, frozen=True):
    """One drill. number, previous: its place in the chain, and the SHA-256 (hex) of the record before ("" for the
    first); both are set when it is kept.

    kind: where it ran. vm: "" for several. plan: the file of the recovery plan, "" without. ready_seconds: until the
    last VM was ready, which is what the plan's RTO is held against; null where one never was. seconds: until all that
    was made for it was gone. within: null without an RTO. result: the worst of its steps. steps: in the plan's order.
    """

    format: Count
    number: Annotated[int, msgspec.Meta(ge=0, le=MOST_REPORTS)]
    previous: Sha256OrNone
    kind: DrillKind
    software: Line
    host: Line
    vm: Line
    plan: Line
    repository: Line
    repository_id: Line
    began: Line
    ended: Line
    seconds: Seconds
    ready_seconds: Seconds | None
    rto_seconds: Seconds | None
    within: bool | None
    result: Result
    exit_code: Count
    steps: list[DrillStep]
    notes: list[Line]


def reasons(reason: str, error: WarmspareError | None) -> str:
    """Why a drill came to its result, as a clause. reason: of the verdict, "" without one. error: what it ended with
    instead, or after it."""
    return "; ".join(each for each in (reason, error.sentence if error else "") if each)


def line(text: str) -> str:
    """A sentence as a record may hold it."""
    return text if len(text) <= LINE_LETTERS else text[:LINE_LETTERS] + "…"


def encode(record: DrillRecord) -> bytes:
    """The bytes that are kept: indented JSON."""
    return records.encode(record) + b"\n"


def decode(data: bytes, where: str) -> DrillRecord:
    """A kept record; FormatError if it is none, or of a later format."""
    return decoded(data, where, DrillRecord, "drill record", FORMAT)


def _placed(record: DrillRecord, number: int, previous: str) -> tuple[DrillRecord, bytes]:
    placed = msgspec.structs.replace(record, number=number, previous=previous)
    return placed, encode(placed)


_FORM: Final = Form("drill record", "--records", "warmspare drills", _placed, decode, MAX_RECORD_BYTES)


def of(directory: Path) -> Reports[DrillRecord]:
    """The drill records of a directory."""
    return Reports(directory, _FORM)
