"""The restore point record: what makes a state of a VM's disks visible; owns its JSON and its rules.

docs/format.md, "Restore point". The record's SHA-256 over its stored bytes is its identity; a child names its
parent by it, so that everything below one record is tamper-evident.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.model.ids import DiskId, RequestId, RunId, VmId
from warmspare.model.units import MAX_CAPACITY_BYTES, block_count
from warmspare.outside import records
from warmspare.outside.records import Count, Line, Moment, Sequence, Sha256, UnfitError

MAX_POINT_BYTES = 4 << 20
MAX_DISKS = 1000  # three digits in their keys
REQUEST_ID = "request_id"  # in the hardware, where readers of before take what they don't know
_KEY_PART = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.=-]+"
_KEY = re.compile(rf"{_KEY_PART}(?:/{_KEY_PART})*")


class ObjectRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object below a restore point: key in the repository, length, SHA-256 (hex) and CRC32C of it all."""

    key: Line
    bytes: Count
    sha256: Sha256
    crc32c: int


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stored hash table: of which restore point (sequence), and where."""

    sequence: Sequence
    table: ObjectRef


class Disk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One protected disk. `id` is what it is known by for ever, `name` the file name of its replica.

    root: hex root of the hash table. change_id: vSphere's, for the next query. changed_blocks: of this point.
    manifest_bytes_since_checkpoint: decides when the next one is due. attributes: free text for people. reason: why
    all of it was read and compared; "" where a change tracker was believed.
    """

    id: DiskId
    name: Line
    capacity_bytes: Count
    root: Sha256
    manifest: ObjectRef
    changed_blocks: Count
    change_id: Line | None = None
    checkpoint: Checkpoint | None = None
    manifest_bytes_since_checkpoint: Count = 0
    attributes: dict[str, str] = {}
    reason: Line = ""


class Unprotected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk of the VM that is not in the restore point, and why."""

    name: Line
    reason: Line


class KnownHardware(msgspec.Struct, frozen=True):
    """What of `hardware` others read without looking at it first; null and absent are not known."""

    firmware: Line | None = None
    cpus: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    memory_mib: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None
    secure_boot: bool | None = None
    guest_id: Line | None = None
    nics: list[dict[str, Any]] | None = None
    boot_disks: list[Line] | None = None
    unknown: list[Any] | None = None
    missed_changes: list[Line] | None = None
    failback: Line | None = None
    request_id: RequestId | None = None


class RestorePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A committed, crash-consistent state of all protected disks of one VM.

    sequence counts from 1; parent is the SHA-256 (hex) of the record before, None for the first.
    run: 32 hex digits, unique to the sync. created: RFC 3339 in UTC, by the sender's clock. hardware: what the VM
    consists of, for its recovery; JSON of the source's own, empty for raw disks.
    """

    format: int
    flags: int
    vm_id: VmId
    vm_name: Line
    sequence: Sequence
    parent: Sha256 | None
    run: RunId
    created: Moment
    software: Line
    disks: list[Disk]
    bytes_read: Count
    bytes_changed: Count
    bytes_sent: Count
    unprotected: list[Unprotected] = []
    hardware: dict[str, Any] = {}

    @property
    def request_id(self) -> RequestId | None:
        """The request that it was made for; None where nobody named one."""
        return self.hardware.get(REQUEST_ID)

    def disk(self, disk_id: DiskId) -> Disk | None:
        return next((disk for disk in self.disks if disk.id == disk_id), None)


def encode(point: RestorePoint) -> bytes:
    """The bytes to store: indented JSON, for the person who opens it with a pager at 3 a.m."""
    return msgspec.json.format(msgspec.json.encode(point), indent=1) + b"\n"


def decode(data: bytes, where: str) -> RestorePoint:
    """Decode and check a record; FormatError on anything that breaks the rules of docs/format.md."""
    try:
        point = flags.decode(data, RestorePoint, "restore point", where)
        records.typed(point.hardware, KnownHardware)
    except UnfitError as error:
        raise FormatError(f"the restore point record is damaged: {error}", where=where) from None
    _check(point, where)
    return point


def _check(point: RestorePoint, where: str) -> None:
    wrong = _broken_rule(point)
    if wrong:
        raise FormatError(f"the restore point record is damaged: {wrong}", where=where)


def _broken_rule(point: RestorePoint) -> str:
    """What it breaks that every record keeps to, "" if nothing. There may be a hundred thousand to read: a sentence is
    made only where it is said."""
    if (point.parent is None) != (point.sequence == 1):
        return "only the first has no parent"
    if not records.is_moment(point.created):
        return "it was created on a day that no calendar has"
    if not point.disks:
        return "it has no disks"
    if len(point.disks) > MAX_DISKS:
        return f"it has more than {MAX_DISKS} disks"
    ids, names = {d.id for d in point.disks}, {d.name for d in point.disks}
    if not len(ids) == len(names) == len(point.disks):
        return "two disks share an ID or a name"
    return next((wrong for disk in point.disks if (wrong := _broken_disk(disk, point.sequence))), "")


def _broken_disk(disk: Disk, sequence: int) -> str:
    if not 0 < disk.capacity_bytes <= MAX_CAPACITY_BYTES:
        return f"disk {disk.id} has an impossible capacity"
    if not safe_name(disk.name):
        return f"disk {disk.id} has an unusable file name"
    if not 0 < len(disk.id.encode()) <= 255:
        return "a disk ID is empty or too long"
    if disk.changed_blocks > block_count(disk.capacity_bytes):
        return f"disk {disk.id} changed more than it has"
    if disk.checkpoint is not None and disk.checkpoint.sequence > sequence:
        return f"disk {disk.id} has a checkpoint of a later point"
    for ref in (disk.manifest, *([disk.checkpoint.table] if disk.checkpoint else [])):
        if ref.bytes <= 0 or not 0 <= ref.crc32c < 1 << 32:
            return f"disk {disk.id} has a malformed reference"
        if not safe_key(ref.key):
            return f"disk {disk.id} has an unsafe key"
    return ""


def safe_name(name: str) -> bool:
    """Whether a disk's name can be a file name in a replica's directory."""
    return (
        0 < len(name.encode(errors="replace")) <= 200
        and name.isprintable()
        and "/" not in name
        and not name.startswith(".")
    )


def safe_key(key: str) -> bool:
    """Whether a reference's key is one that a store takes: no way out of the prefix, no odd character."""
    return len(key) <= 700 and _KEY.fullmatch(key) is not None


def identity(data: bytes) -> str:
    """SHA-256 (hex) of a stored record: what the next one names as its parent."""
    return hashlib.sha256(data).hexdigest()
