"""What is staged: EBS snapshots of restore points, read from their own tags; refuses any other memory of it.

Staging writes one EBS snapshot for each disk of a restore point and gives it these tags with the request that starts
it, so that there is no moment at which a snapshot is there and nobody knows of what. They lie where the spare is to
start, in the account and region of the snapshots, and are all that is needed to use them: neither the machine that
staged nor its files, and no write into the repository. Nothing keeps a second list that could say something else.

| tag | value |
| --- | --- |
| `warmspare:repository` | ID of the repository (repository.json) |
| `warmspare:vm` | the VM's ID, as in keys (model/keyparts.py) |
| `warmspare:point`, `warmspare:point-sha256` | the restore point: sequence, SHA-256 of its record |
| `warmspare:created` | when the restore point was made |
| `warmspare:disk` | the disk's ID, as in keys |
| `warmspare:disk-number`, `warmspare:disks` | its place among the disks of the point, from 0; how many these are |
| `warmspare:capacity` | of the disk in bytes; the volume is that, rounded up to GiB |
| `warmspare:parent` | `ID:SEQUENCE` of the EBS snapshot it is an increment on, and its point; empty for a full one |
| `Name` | for people |

A point is usable when the snapshots of all its disks are `completed`; AWS's own state decides that.

    async with Aws(AwsSettings(region="eu-central-1")) as aws:
        points = await staged_points(aws, repository.id, vm_id)     # newest first
        best = newest_usable(points)                                # None: nothing is
        for disk in best.disks: disk.snapshot_id, disk.number, disk.volume_gib, disk.capacity_bytes
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from warmspare.format.restore_point import MAX_DISKS, Disk
from warmspare.model.ids import DiskId, DiskKey, PointId, VmId, VmKey, disk_key, vm_key
from warmspare.outside import records
from warmspare.outside.records import Moment, Sha256
from warmspare.outside.records import Sequence as Number
from warmspare.recover.aws.client import Aws
from warmspare.repository.chain import Point

PREFIX = "warmspare:"
GIB = 1 << 30
COMPLETED, PENDING, FAILED = "completed", "pending", "error"
_NAME_CHARS = 255
_DIGITS = re.compile(r"[0-9]{1,20}")


class _Made(msgspec.Struct, frozen=True):
    """What tags say of a restore point, as its record has it."""

    sequence: Number
    sha256: Sha256
    created: Moment


@dataclass(frozen=True, slots=True)
class StagedDisk:
    """One EBS snapshot. state: as AWS says: pending, completed, error, recovering. key: the disk's ID as in keys.
    number, of: its place among the disks of its point, and their number. parent: the EBS snapshot it is an increment on
    ("" for a full one), parent_sequence its restore point (0). started: when it was started, by AWS's clock."""

    snapshot_id: str
    state: str
    repository: str
    vm: VmKey
    point: PointId
    created: str
    key: DiskKey
    number: int
    of: int
    capacity_bytes: int
    volume_gib: int
    encrypted: bool
    kms_key: str
    parent: str
    parent_sequence: int
    started: datetime.datetime

    @property
    def completed(self) -> bool:
        return self.state == COMPLETED


@dataclass(frozen=True, slots=True)
class StagedPoint:
    """The EBS snapshots of one restore point, ascending by number, the newest of each disk where there are several.

    created: when the restore point was made, RFC 3339.
    """

    repository: str
    vm: VmKey
    id: PointId
    created: str
    disks: tuple[StagedDisk, ...]

    @property
    def usable(self) -> bool:
        """Whether every disk of the restore point is here and completed."""
        numbers = [disk.number for disk in self.disks if disk.completed]
        return bool(self.disks) and numbers == list(range(self.disks[0].of))

    def disk(self, disk_id: DiskId) -> StagedDisk | None:
        """The snapshot of the disk with that ID; None if there is none."""
        key = disk_key(disk_id)
        return next((disk for disk in self.disks if disk.key == key), None)


def volume_gib(capacity_bytes: int) -> int:
    """The size of the volume that holds a disk: EBS counts in GiB."""
    return -(-capacity_bytes // GIB)


def tags_of(repository: str, restore_point: Point, disk: Disk, parent: StagedDisk | None) -> dict[str, str]:
    """The tags of the snapshot of one disk of a restore point."""
    record = restore_point.record
    values = {
        "repository": repository,
        "vm": vm_key(record.vm_id),
        "point": str(record.sequence),
        "point-sha256": restore_point.id.sha256,
        "created": record.created,
        "disk": disk_key(disk.id),
        "disk-number": str(record.disks.index(disk)),
        "disks": str(len(record.disks)),
        "capacity": str(disk.capacity_bytes),
        "parent": f"{parent.snapshot_id}:{parent.point.sequence}" if parent else "",
    }
    name = f"warmspare {record.vm_name} {restore_point.id.label} {disk.name}"
    return {**{PREFIX + key: value for key, value in values.items()}, "Name": name[:_NAME_CHARS]}


def parse(snapshot: Mapping[str, Any]) -> StagedDisk | None:
    """A snapshot as DescribeSnapshots gives it; None if it is not one of ours, or its tags were changed by hand."""
    tags = {tag["Key"]: tag["Value"] for tag in snapshot.get("Tags", [])}
    try:
        parent, _, parent_sequence = tags[PREFIX + "parent"].partition(":")
        found = StagedDisk(
            snapshot_id=snapshot["SnapshotId"],
            state=snapshot["State"],
            repository=tags[PREFIX + "repository"],
            vm=VmKey(tags[PREFIX + "vm"]),
            point=PointId(_whole(tags[PREFIX + "point"]), tags[PREFIX + "point-sha256"]),
            created=tags[PREFIX + "created"],
            key=DiskKey(tags[PREFIX + "disk"]),
            number=_whole(tags[PREFIX + "disk-number"]),
            of=_whole(tags[PREFIX + "disks"]),
            capacity_bytes=_whole(tags[PREFIX + "capacity"]),
            volume_gib=int(snapshot["VolumeSize"]),
            encrypted=bool(snapshot.get("Encrypted")),
            kms_key=snapshot.get("KmsKeyId", ""),
            parent=parent,
            parent_sequence=_whole(parent_sequence or "0"),
            started=snapshot["StartTime"],
        )
        of_point = {"sequence": found.point.sequence, "sha256": found.point.sha256, "created": found.created}
        records.typed(of_point, _Made)
    except (KeyError, ValueError, TypeError):
        return None
    sound = 0 <= found.number < found.of <= MAX_DISKS and 0 < found.capacity_bytes <= found.volume_gib * GIB
    return found if sound and records.is_moment(found.created) else None


def _whole(text: str) -> int:
    """A number as `tags_of` writes it. ValueError."""
    if not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return int(text)


async def staged_disks(aws: Aws, repository: str, vm_id: VmId) -> list[StagedDisk]:
    """All EBS snapshots of this account and region that were staged for a VM of a repository, in whatever state.
    AwsError if AWS can't be asked."""
    return await _asked(aws, f"VM {vm_id}", {"repository": repository, "vm": vm_key(vm_id)})


async def newest_staged(aws: Aws, repository: str) -> dict[VmKey, StagedPoint]:
    """The newest usable restore point of each VM of a repository that has one, by one question. repository: its ID.
    AwsError if AWS can't be asked."""
    disks: dict[VmKey, list[StagedDisk]] = {}
    for disk in await _asked(aws, "the repository's VMs", {"repository": repository}):
        disks.setdefault(disk.vm, []).append(disk)
    newest = {vm: newest_usable(points_of(found)) for vm, found in disks.items()}
    return {vm: point for vm, point in newest.items() if point is not None}


async def _asked(aws: Aws, about: str, tags: Mapping[str, str]) -> list[StagedDisk]:
    """The snapshots of this account and region that have these tags of ours."""
    found = aws.pages(
        "ec2",
        "describe_snapshots",
        "Snapshots",
        about=about,
        OwnerIds=["self"],
        Filters=[{"Name": f"tag:{PREFIX}{key}", "Values": [value]} for key, value in tags.items()],
        MaxResults=1000,
    )
    return [disk async for snapshot in found if (disk := parse(snapshot)) is not None]


def points_of(disks: Iterable[StagedDisk]) -> list[StagedPoint]:
    """Snapshots by their restore points, newest first. Of several of one disk: a completed one, then the newest."""
    best: dict[tuple[PointId, DiskKey], StagedDisk] = {}
    for disk in sorted(disks, key=lambda disk: (disk.completed, disk.started)):
        best[disk.point, disk.key] = disk
    groups: dict[PointId, list[StagedDisk]] = {}
    for disk in best.values():
        groups.setdefault(disk.point, []).append(disk)
    points = [
        StagedPoint(found[0].repository, found[0].vm, key, found[0].created, tuple(sorted(found, key=_number)))
        for key, found in groups.items()
    ]
    return sorted(points, key=lambda staged: (staged.id.sequence, staged.usable), reverse=True)


def _number(disk: StagedDisk) -> int:
    return disk.number


async def staged_points(aws: Aws, repository: str, vm_id: VmId) -> list[StagedPoint]:
    """What is staged of a VM, newest restore point first. repository: its ID. AwsError if AWS can't be asked."""
    return points_of(await staged_disks(aws, repository, vm_id))


def newest_usable(points: Sequence[StagedPoint]) -> StagedPoint | None:
    """The newest restore point of which every disk is completed; None if there is none."""
    return next((staged for staged in points if staged.usable), None)
