"""Events of looking into restore points: what differs between two, mounts, files of a guest, and what will
stop a VM from starting."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import size, told


class PointRead(Event, frozen=True, kw_only=True, tag="point.read"):
    """`recover check`, `drill` without a replica: what was read of the restore point."""

    vm: str
    point: str
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]
    blocks_verified: int
    capacity_bytes: Annotated[int, note(description="of the disks")]

    def words(self) -> str:
        return (
            f"read of restore point {self.point}: {self.blocks_verified} blocks put together and verified, for which "
            f"{size(self.bytes_fetched)} were fetched; its disks have {size(self.capacity_bytes)}"
        )


class CheckDone(Event, frozen=True, kw_only=True, tag="check.done"):
    """`recover check`; exit code 5 if anything stops the start, with `--strict` 7 if something is not known."""

    ends = True

    vm: str
    vm_name: str
    point: str
    stops: int
    warnings: int
    notes: int
    not_known: Annotated[list[str], note(description="a clause each, with disk and place")]
    seen: list[str]

    def weight(self) -> Weight:
        return Weight.ALARM if self.stops else Weight.WARNING if self.warnings or self.not_known else Weight.GOOD

    def words(self) -> str:
        said = (
            f"{self.stops} things were found that will stop {self.vm!r} from starting in EC2"
            if self.stops
            else f"{self.vm!r} starts in EC2 as far as was seen"
        )
        left = f"; not known: {'; '.join(self.not_known)}" if self.not_known else ""
        return f"{said}; warnings: {self.warnings}, notes: {self.notes}{left}"


class OutlookTold(Event, frozen=True, kw_only=True, tag="outlook"):
    """`failover --dry-run`, `drill --ec2 --plan`, and `failover` where an image hangs on it: what a check says of the
    disks."""

    vm: str
    point: str
    answer: Annotated[str, note(description="starts, stops, not known; `starts` is as far as was seen")]
    stops: list[str]
    not_known: Annotated[list[str], note(description="a clause each")]
    runs: Annotated[list[str], note(description="Windows, RHEL, SUSE, Linux; several where it is not sure")]

    def weight(self) -> Weight:
        return {"starts": Weight.ANSWER, "not known": Weight.WARNING}.get(self.answer, Weight.ALARM)

    def words(self) -> str:
        head = f"{self.vm} at restore point {self.point}: "
        if self.stops:
            head += f"WILL NOT START: {'; '.join(self.stops)}"
        else:
            head += f"starts {self.runs[0] if len(self.runs) == 1 else ''}".rstrip() + " as far as was seen"
        return head + (f"; not known: {'; '.join(self.not_known)}" if self.not_known else "")


class DiskDiffered(Event, frozen=True, kw_only=True, tag="diff.disk"):
    """`diff`, for each disk of either point: what differs, from the first point to the second."""

    usual = Weight.ANSWER

    vm: str
    disk: str
    name: str
    presence: Annotated[
        Literal["both", "joined", "left"], note(description="in both points, the second alone, the first alone")
    ]
    capacity_before: Annotated[int | None, note(description="bytes; null where the first point has it not")]
    capacity_after: Annotated[int | None, note(description="bytes; null where the second point has it not")]
    blocks: Annotated[int, note(description="that differ, exactly: by their hashes")]
    blocks_filled: Annotated[int, note(description="of them: zeros before; also what the disk grew by")]
    blocks_emptied: Annotated[int, note(description="of them: zeros after")]
    blocks_changed: Annotated[int, note(description="of them: all others")]
    bytes_blocks: int
    pages: Annotated[int, note(description="of these blocks: those that differ, or without `pages_exact` may")]
    bytes_pages: int
    pages_exact: Annotated[
        bool, note(description="with `--exact`; else those written between, of which some may be alike")
    ]

    def words(self) -> str:
        most = "" if self.pages_exact else "at most "
        what = {"joined": " is in the second point alone", "left": " is in the first point alone"}.get(
            self.presence, ""
        )
        if self.capacity_before and self.capacity_after and self.capacity_before != self.capacity_after:
            what = f" went from {size(self.capacity_before)} to {size(self.capacity_after)}"
        return (
            f"disk {self.name}{what}: {self.blocks} blocks ({size(self.bytes_blocks)}) differ, in "
            f"{most}{self.pages} pages ({size(self.bytes_pages)})"
        )


class DiffDone(Event, frozen=True, kw_only=True, tag="diff.done"):
    """`diff`."""

    ends = True
    usual = Weight.ANSWER

    vm: str
    vm_name: str
    first: str
    first_created: str
    second: str
    second_created: str
    same: Annotated[bool, note(description="no disk differs in anything, and none joined, left or grew")]
    disks: int
    blocks: int
    bytes_blocks: int
    pages: int
    bytes_pages: int
    pages_exact: bool
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]
    html: Annotated[str | None, note(description="the page")]

    def words(self) -> str:
        head = f"{self.first} of {self.first_created} and {self.second} of {self.second_created}"
        tail = f"; the page is {self.html}" if self.html else ""
        if self.first == self.second:
            return f"{head} are one restore point{tail}"
        if self.same:
            return f"{head} have the same disks, byte for byte{tail}"
        most = "" if self.pages_exact else "at most "
        return (
            f"{head} differ in {self.blocks} blocks ({size(self.bytes_blocks)}), {most}{self.pages} pages "
            f"({size(self.bytes_pages)}); {size(self.bytes_fetched)} were fetched{tail}"
        )


class MountedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a mount. partition: its number, null for a whole disk. offset, bytes: of the disk."""

    name: str
    disk: str
    partition: int | None
    offset: int
    bytes: int


class MountReady(Event, frozen=True, kw_only=True, tag="mount.ready"):
    """`mount`: the files are there."""

    usual = Weight.ANSWER

    vm: str
    vm_name: str
    point: str
    replica: Annotated[str | None, note(description="that is mounted; null for the restore point itself")]
    directory: str
    files: Annotated[list[MountedFile], note(description="name, disk, partition, offset, bytes")]
    left_out: Annotated[list[str], note(description="what is not shown of the disks, a clause each")]

    def words(self) -> str:
        files = told([f"{one.name} ({size(one.bytes)})" for one in self.files])
        what = f"the replica {self.replica} at {self.point}" if self.replica else f"restore point {self.point}"
        left = f"; not shown: {told(self.left_out)}" if self.left_out else ""
        return f"{what} is in {self.directory}, read-only, until Ctrl-C: {files}{left}"


class UnreadableBlock(Event, frozen=True, kw_only=True, tag="finding"):
    """A block that was read does not verify; whoever read it was told that there is an I/O error."""

    use = "mount"
    usual = Weight.ALARM

    kind: Literal["unreadable-block"] = "unreadable-block"
    vm: str
    disk: str
    offset: Annotated[int, note(description="of the read, on the disk")]
    length: int
    message: str

    def words(self) -> str:
        return f"FINDING on disk {self.disk}, in {self.length} bytes at offset {self.offset}: {self.message}"


class MountReadFailed(Event, frozen=True, kw_only=True, tag="mount.failed"):
    """`mount`: a read ended with an I/O error for the store did not give what it needs; told every 10 s at most."""

    usual = Weight.WARNING

    vm: str
    disk: str
    message: str

    def words(self) -> str:
        return f"WARNING: disk {self.disk}: a read failed: {self.message}"


class MountDone(Event, frozen=True, kw_only=True, tag="mount.done"):
    """`mount`: nothing is mounted any more, or will be in a moment; somebody unmounted it, or ended the program."""

    ends = True
    usual = Weight.GOOD

    vm: str
    point: str
    directory: str
    bytes_read: Annotated[int, note(description="by those who read the files, for partition tables too")]
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]
    blocks_verified: int
    reads_failed: Annotated[int, note(description="that ended with an I/O error")]

    def weight(self) -> Weight:
        return Weight.WARNING if self.reads_failed else self.usual

    def words(self) -> str:
        failed = f"; {self.reads_failed} reads failed" if self.reads_failed else ""
        return (
            f"{self.directory} is let go: {size(self.bytes_read)} of {self.point} were read, for which "
            f"{size(self.bytes_fetched)} were fetched{failed}"
        )


class VolumeListed(Event, frozen=True, kw_only=True, tag="files.volume"):
    """`files ls` without a path: each volume."""

    usual = Weight.ANSWER

    vm: str
    volume: Annotated[str, note(description="what stands before `:/path`")]
    disk: str
    place: Annotated[str, note(description="on the disk, in words")]
    system: Annotated[str | None, note(description="`/` or `C:` where it is the root of the one system of its kind")]
    filesystem: Annotated[str | None, note(description="as blkid calls it")]
    label: str
    uuid: str
    bytes: Annotated[int | None, note(description="of the volume; null where that is not known")]
    why: Annotated[str | None, note(description="why its files can't be read; null where they can")]

    def words(self) -> str:
        holds = self.filesystem or "nothing that is known"
        tail = f" ({self.system})" if self.system else ""
        return f"{self.volume}: {holds}{tail}" + (f"; {self.why}" if self.why else "")


class EntryListed(Event, frozen=True, kw_only=True, tag="files.entry"):
    """`files ls`: a file."""

    usual = Weight.ANSWER

    path: Annotated[str, note(description="what is no UTF-8 in it as `\\\\xff`")]
    kind: Annotated[
        Literal["folder", "file", "link", "other"],
        note(description="other: a device, a FIFO, a socket, or what its reader can't open"),
    ]
    bytes: Annotated[int | None, note(description="of a file")]
    modified: Annotated[str | None, note(description="UTC; null where its reader tells none")]
    mode: Annotated[str | None, note(description="octal, four digits; null where its reader tells none")]
    target: Annotated[str | None, note(description="where a link leads, if its reader tells that")]

    def words(self) -> str:
        return self.path


class FileRestored(Event, frozen=True, kw_only=True, tag="files.file"):
    """`files get`: a file or a link is whole in its place."""

    usual = Weight.DETAIL

    path: str
    to: str
    bytes: int
    there: Annotated[bool, note(description="it was there already, with the same bytes")]
    target: Annotated[str | None, note(description="where it leads, of a link")]

    def words(self) -> str:
        was = " was there already" if self.there else ""
        return f"{self.path} is {self.to} ({size(self.bytes)}){was}"


class FileLeft(Event, frozen=True, kw_only=True, tag="files.left"):
    """`files get`, `files ls`: what was not restored, or not listed."""

    path: str
    message: Annotated[str, note(description="why, as a clause")]
    failed: Annotated[bool, note(description="it should have been; else it is a link or a device, which is not made")]

    def weight(self) -> Weight:
        return Weight.WARNING if self.failed else Weight.PLAIN

    def words(self) -> str:
        return f"{'WARNING: ' if self.failed else ''}{self.path}: {self.message}"


class FileNoted(Event, frozen=True, kw_only=True, tag="files.note"):
    """`files get`, `files ls`: what is not restored of a file, which names differ in case only, and who reads a
    volume."""

    path: Annotated[str, note(description="of the file, or the volume's name")]
    message: str

    def words(self) -> str:
        return f"{self.path}: {self.message}"


class FilesListed(Event, frozen=True, kw_only=True, tag="files.listed"):
    """`files ls`; exit code 7, or 5 for damage, where something could not be listed."""

    ends = True

    vm: str
    vm_name: str
    point: str
    files: Annotated[int, note(description="links and others too")]
    folders: Annotated[int, note(description="without paths: the volumes")]
    bytes: int
    failed: int
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]

    def weight(self) -> Weight:
        return Weight.WARNING if self.failed else Weight.GOOD

    def words(self) -> str:
        failed = f"; {self.failed} could not be listed" if self.failed else ""
        return (
            f"restore point {self.point}: {self.files} files ({size(self.bytes)}) and {self.folders} folders; "
            f"{size(self.bytes_fetched)} were fetched{failed}"
        )


class FilesRestored(Event, frozen=True, kw_only=True, tag="files.done"):
    """`files get`; exit code 7, or 5 for damage, where something that was asked for is not there."""

    ends = True

    vm: str
    vm_name: str
    point: str
    to: str
    files: int
    folders: int
    links: int
    bytes: int
    there: Annotated[int, note(description="of the files and links: were there already, with the same bytes")]
    left: Annotated[int, note(description="links, devices and others that are not made")]
    failed: Annotated[int, note(description="could not be restored")]
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]
    blocks_verified: int

    def weight(self) -> Weight:
        return Weight.WARNING if self.failed else Weight.GOOD

    def words(self) -> str:
        there = f", {self.there} of them were there already" if self.there else ""
        left = f"; {self.left} that are not made" if self.left else ""
        failed = f"; {self.failed} COULD NOT BE RESTORED" if self.failed else ""
        return (
            f"{self.files} files ({size(self.bytes)}), {self.folders} folders and {self.links} links of restore point "
            f"{self.point} are in {self.to}{there}{left}{failed}; {size(self.bytes_fetched)} were fetched; owners, "
            "attributes and access lists are not restored"
        )
