"""How far a deep audit has come, so that one that was interrupted goes on; bound to the points that it judged.

Owns the record and when it may be believed: it names the chain by the SHA-256 of its points, and what lies in scratch
space is held against the hashes that were proved as it is used again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Annotated

import msgspec

from warmspare.audit.reports.findings import Finding
from warmspare.audit.repository.scratch import WHAT, Scratch
from warmspare.model.ids import DiskId, VmKey
from warmspare.model.masks import FULL_MASK
from warmspare.model.units import MAX_CAPACITY_BYTES
from warmspare.observe.events import Events
from warmspare.outside.records import Block, Count, Line, Moment, Seconds, Sequence, Sha256, Sha256OrNone, is_moment
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import encode_record, local_io, make_void, pwrite_all, read_record, write_record
from warmspare.state.page_file import PageFile

FORMAT = 1


class DeepDiskProgress(msgspec.Struct):
    """A disk's part. capacity_bytes: at the last point gone past. lost, spans: as Losses has them. stopped: the label
    of the point from which on nothing of it can be judged, "" while it can."""

    capacity_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_CAPACITY_BYTES)] = 0
    lost: Block = 0
    spans: list[tuple[Sequence, Sequence]] = []
    stopped: Line = ""


class Pending(msgspec.Struct):
    """A change of what is lost of a disk, noted before it is made."""

    disk: DiskId
    blocks: list[Block]
    pages: list[Annotated[int, msgspec.Meta(ge=0, le=FULL_MASK)]]
    cleared: list[tuple[Block, Block]]
    count: Block

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.pages):
            raise ValueError("a change of what is lost has not the pages of each block")


class DeepProgress(msgspec.Struct):
    """repository, vm: whose. token: in the names of its files, so that it goes with no others. began: RFC 3339.

    target: the newest point to judge, and its SHA-256. at: the point that is being judged, its SHA-256, and of its disk
    number `disk` how many chunks are done; packs: those proved of it. pending: belongs to the last of these chunks; may
    have been made or not. retention: SHA-256 of the record that says which points are left; "" without one.
    """

    format: Count
    repository: Line
    vm: VmKey
    token: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,64}\Z")]
    began: Moment
    target: Sequence
    target_sha256: Sha256
    at: Sequence = 1
    at_sha256: Annotated[str, msgspec.Meta(pattern=r"^(-|[0-9a-f]{64})?\Z")] = ""
    disk: Count = 0
    chunks: Count = 0
    packs: list[Count] = []
    states: Count = 0
    unsure: Count = 0
    fetched_bytes: Count = 0
    seconds: Seconds = 0.0
    disks: dict[Line, DeepDiskProgress] = {}
    pending: Pending | None = None
    findings: list[Finding] = []
    left_out: Count = 0
    retention: Sha256OrNone = ""

    def __post_init__(self) -> None:
        if not is_moment(self.began) or self.at > self.target:
            raise ValueError("it began on a day that no calendar has, or is beyond the point that it goes up to")


class Keeper:
    """Keeps it beside the scratch files it is about, one of a VM and repository. name: what those files begin with."""

    def __init__(self, scratch: Scratch, repository: str, vm: VmKey, events: Events) -> None:
        self.name = hashlib.sha256(f"{repository}/{vm}".encode()).hexdigest()[:16]
        self._path = scratch.directory / f"{self.name}.json"
        self._scratch, self._events = scratch, events

    def file_name(self, token: str, disk_id: DiskId) -> str:
        """What the files of a disk begin with."""
        return f"{self.name}-{token}-{hashlib.sha256(disk_id.encode()).hexdigest()[:16]}"

    def load(self) -> DeepProgress | None:
        """What an interrupted audit left; None if there is nothing, or it can't be read."""
        found = read_record(self._path, DeepProgress, WHAT, self._events)
        return found if found and found.format == FORMAT else None

    def save(self, progress: DeepProgress, files: list[PageFile], *, durable: bool) -> None:
        """After what it speaks of was written. durable: on the medium first, so that it outlives the machine; else
        it outlives this process, which is enough as long as what lies in scratch space is checked when it is used."""
        if durable:
            for file in files:
                file.sync(data_only=True)
            write_record(self._path, progress, WHAT)
            return
        staged = self._path.with_suffix(".new")
        with local_io(WHAT, self._path):
            fd = open_regular(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                pwrite_all(fd, encode_record(progress), 0)
            finally:
                os.close(fd)
            staged.replace(self._path)

    def forget(self) -> None:
        """The audit is over, or begins anew: its files go too. One that can't be removed is of no use to another audit,
        for its name is of this one; the next one tries again."""
        make_void(self._path, WHAT)
        for path in self._files():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._scratch.directory.glob(f"{self.name}-*"))
