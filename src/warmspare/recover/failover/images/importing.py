"""Images by VM Import: for systems that are billed by licence, and as in 2014; starts the task and follows it.

About an hour: AWS copies the disks, looks into them, installs drivers, starts them once. AWS documents: "Import your VM
as an image", "ImportImage".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from warmspare.errors import RecoverError
from warmspare.recover.aws.ec2 import Ec2, Json, tag_filters, tag_list, tagged
from warmspare.recover.failover.ec2_machine import Ec2Machine
from warmspare.recover.failover.images.import_errors import explain_import
from warmspare.recover.failover.platform import LINUX, WINDOWS

IMPORT_S = 6 * 3600.0
ENDED = ("completed", "deleting", "deleted")

OnProgress = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """An import to be. run: unique to the failover. failed: its tasks that failed before. raw: s3://BUCKET/KEY of a raw
    disk each, the root first; empty to import the staged EBS snapshots. license: AWS, BYOL or None for what AWS
    finds. role: None for `vmimport`."""

    run: str
    machine: Ec2Machine
    label: str
    tags: dict[str, str] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
    license: str | None = None
    role: str | None = None
    failed: tuple[str, ...] = ()

    def parameters(self) -> Json:
        """Of ImportImage."""
        machine = self.machine
        if self.raw:
            disks = [_raw(uri) for uri in self.raw]
        else:
            disks = [{"Description": disk.name[:255], "SnapshotId": disk.staged.snapshot_id} for disk in machine.disks]
        again = f" {len(self.failed)}" if self.failed else ""  # AWS would answer the same token with the failed task
        out: Json = {
            "ClientToken": hashlib.sha256(f"{self.run} import{again}".encode()).hexdigest(),
            "Architecture": machine.architecture,
            "BootMode": machine.boot_mode,
            "Description": f"VM {machine.vm_name} at restore point {self.label}, by warmspare"[:255],
            "DiskContainers": disks,
            "Platform": WINDOWS if machine.platform == WINDOWS else LINUX,
            "TagSpecifications": [tagged("import-image-task", {**self.tags, "warmspare:run": self.run})],
        }
        if self.license:
            out["LicenseType"] = self.license
        if self.role:
            out["RoleName"] = self.role
        return out


class Imports:
    """VM Import in one account and region. on_progress: hears (task, percent, what it does now) when that changes."""

    def __init__(self, ec2: Ec2, on_progress: OnProgress | None = None) -> None:
        self._ec2, self._on_progress = ec2, on_progress

    async def find(self, run: str, about: str, failed: Collection[str] = ()) -> str:
        """The task of that run that is none of the failed ones, "" if there is none. AwsError."""
        tasks = self._ec2.pages(
            "describe_import_image_tasks", "ImportImageTasks", about=about, Filters=tag_filters(run=run)
        )
        found = [str(task["ImportTaskId"]) async for task in tasks]
        return max((task_id for task_id in found if task_id not in failed), default="")

    async def failure(self, task_id: str) -> RecoverError | None:
        """Why a task failed, in words; None if it did not, or AWS does not show it. AwsError."""
        task = await self._task(task_id)
        return _failure(task_id, task) if task.get("Status") in ENDED else None

    async def start(self, spec: ImportSpec) -> str:
        """The ID of the task: that which runs already, or a new one. AwsError."""
        about = f"VM {spec.machine.vm_name}"
        found = await self.find(spec.run, about, spec.failed)
        if found:
            return found
        answer = await self._ec2.ask("import_image", about=about, **spec.parameters())
        return str(answer["ImportTaskId"])

    async def finished(self, task_id: str, tags: dict[str, str]) -> str:
        """The ID of the image once the task has made it; it is given the tags then. RecoverError, with what to do, if
        the import failed; AwsError."""
        shown = ("", "")

        async def look() -> Json | None:
            nonlocal shown
            task = await self._task(task_id)
            state = (str(task.get("Progress") or ""), str(task.get("StatusMessage") or ""))
            if task and state != shown and self._on_progress:
                shown = state
                self._on_progress(task_id, *state)
            return task if task.get("Status") in ENDED else None

        task = await self._ec2.until(look, most_s=IMPORT_S, what="VM Import takes too long", where=task_id)
        if failure := _failure(task_id, task):
            raise failure
        image_id = str(task["ImageId"])
        await self._ec2.ask("create_tags", about=image_id, Resources=[image_id], Tags=tag_list(tags))
        return image_id

    async def _task(self, task_id: str) -> Json:
        """What AWS shows of a task, nothing if it does not."""
        answer = await self._ec2.ask("describe_import_image_tasks", about=task_id, ImportTaskIds=[task_id])
        task: Json = next(iter(answer.get("ImportImageTasks", [])), {})
        return task


def _failure(task_id: str, task: Json) -> RecoverError | None:
    """The error for a task that ended; None if it made an image."""
    if task.get("Status") == "completed":
        if task.get("ImageId"):
            return None
        return RecoverError(
            "VM Import is done and names no image", where=task_id, hint="run this again: it is imported anew"
        )
    return explain_import(task_id, str(task.get("Status")), str(task.get("StatusMessage") or ""))


def _raw(uri: str) -> Json:
    parts = urlsplit(uri)
    return {"Format": "RAW", "UserBucket": {"S3Bucket": parts.netloc, "S3Key": parts.path.lstrip("/")}}
