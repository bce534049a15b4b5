"""The volumes of a failed-over VM and the EBS snapshots that an export is read from; owns how both are found again.

A snapshot is tagged with the export and the volume it is of, and looked for before one is made, for CreateSnapshot has
no client token. Which export goes on is in a file beside what it writes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from warmspare.errors import RecoverError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.outside.records import Hex32, Line
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import UNSEEN_S, Ec2, tag_filters, tagged, tags_in
from warmspare.recover.aws.ec2_errors import failed
from warmspare.recover.aws.refused_deletion import delete
from warmspare.recover.failover.launch import of_attempt
from warmspare.recover.staging.staged import StagedDisk
from warmspare.state.local_files import local_io, read_record, write_record

RECORD = ".warmspare-export.json"
WHAT = "the export"
COMPLETED_S = 6 * 3600.0


class ExportRecord(msgspec.Struct, frozen=True):
    """An export that is not finished, or that left something. id: 32 hex digits, "" if it is finished. left: IDs of EBS
    snapshots of exports to this directory that could not be removed."""

    id: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
    vm: VmId
    run: Hex32
    left: list[Line] = []


def begin_export(directory: Path, vm: VmId, run: str, events: Events) -> ExportRecord:
    """The unfinished export of this failover in a directory; a new one, durably noted, if there is none. StoreError."""
    path = directory / RECORD
    with local_io(WHAT, directory):
        directory.mkdir(parents=True, exist_ok=True)
    record = read_record(path, ExportRecord, WHAT, events)
    if record is None or not goes_on(directory, vm, run, events):
        record = ExportRecord(secrets.token_hex(16), vm, run, record.left if record else [])
        write_record(path, record, WHAT)
    return record


def goes_on(directory: Path, vm: VmId, run: str, events: Events) -> bool:
    """Whether an export of this failover into that directory was begun and not finished. StoreError."""
    record = read_record(directory / RECORD, ExportRecord, WHAT, events)
    return record is not None and bool(record.id) and (record.vm, record.run) == (vm, run)


def finish_export(directory: Path, record: ExportRecord) -> None:
    """The export is finished: what it read must not be met again. left: what the next one is to remove. StoreError."""
    with local_io(WHAT, directory):
        if record.left:
            write_record(directory / RECORD, ExportRecord("", record.vm, record.run, record.left), WHAT)
        else:
            (directory / RECORD).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ReturningVolume:
    """A volume of the failed-over VM. snapshot_id: it was made from that. device: it hangs there, "" if nowhere."""

    id: str
    snapshot_id: str
    gib: int
    device: str


class Returning:
    """Volumes and snapshots of one account in one region."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    async def volumes(self, run: str, attempt: int, about: str) -> list[ReturningVolume]:
        """All volumes of a failover's last attempt, whether or not its instance is there still. AwsError."""
        found = self._ec2.pages("describe_volumes", "Volumes", about=about, Filters=tag_filters(run=run))
        out = []
        async for item in found:
            if not of_attempt(tags_in(item), attempt):
                continue
            device = next((each.get("Device", "") for each in item.get("Attachments", [])), "")
            out.append(ReturningVolume(item["VolumeId"], item.get("SnapshotId") or "", int(item["Size"]), device))
        return out

    async def snapshot(self, volume: ReturningVolume, export: str, vm_name: str) -> str:
        """The ID of the export's snapshot of a volume: that which was begun already, or a new one. AwsError."""
        filters = tag_filters(export=export, volume=volume.id)
        async for item in self._ec2.pages(
            "describe_snapshots", "Snapshots", about=volume.id, OwnerIds=["self"], Filters=filters
        ):
            return str(item["SnapshotId"])
        tags = {
            "warmspare:export": export,
            "warmspare:volume": volume.id,
            "Name": f"warmspare return of {vm_name}"[:255],
        }
        answer = await self._ec2.ask(
            "create_snapshot",
            about=volume.id,
            VolumeId=volume.id,
            Description=f"return of VM {vm_name}, by warmspare"[:255],
            TagSpecifications=[tagged("snapshot", tags)],
        )
        return str(answer["SnapshotId"])

    async def completed(self, snapshot_id: str) -> None:
        """Return once it can be read. RecoverError if it failed; AwsError."""
        unseen_until = time.monotonic() + UNSEEN_S

        async def look() -> bool | None:
            answer = await self._ec2.ask(
                "describe_snapshots", about=snapshot_id, unseen_until=unseen_until, SnapshotIds=[snapshot_id]
            )
            found: dict[str, str] = next(iter(answer.get("Snapshots", [])), {})
            state = str(found.get("State") or "pending")
            if state not in ("pending", "completed"):
                raise failed("snapshot", snapshot_id, state, "", str(found.get("StateMessage") or ""))
            return True if state == "completed" else None

        what = "the snapshot is not completed for hours"
        await self._ec2.until(look, most_s=COMPLETED_S, what=what, where=snapshot_id)

    async def remove(self, snapshot_id: str) -> AwsError | None:
        """Delete a snapshot that an export made; None once it is gone, else why AWS keeps it. AwsError if nothing can
        be deleted now."""
        return await delete(self._ec2.aws, "delete_snapshot", snapshot_id, SnapshotId=snapshot_id)


def volume_of(disk: StagedDisk, volumes: Sequence[ReturningVolume]) -> ReturningVolume:
    """The volume that a staged disk became: by the snapshot it was made from, else (import-image makes its own
    snapshots) by the order of devices. RecoverError if that is not plain."""
    same = [volume for volume in volumes if volume.snapshot_id == disk.snapshot_id]
    if len(same) == 1:
        return same[0]
    ordered = sorted(volumes, key=lambda volume: volume.device)
    if not same and len(ordered) == disk.of and all(volume.device for volume in ordered):
        return ordered[disk.number]
    raise RecoverError(
        f"which volume disk {disk.number} of the VM became is not plain: {len(volumes)} carry the tag of this failover",
        where=disk.snapshot_id,
        hint="take the tag warmspare:run from those that are not the VM's (`aws ec2 delete-tags --resources VOLUME "
        "--tags Key=warmspare:run`), and export again",
    )
