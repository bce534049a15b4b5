"""Images (AMIs) of staged restore points: registered, found again, awaited, removed; owns how one is named.

RegisterImage has no client token. Its name is unique in an account and a region, so ours is a hash of all that the
image consists of: whoever registers the same again, from any machine, finds the first. AWS documents: "RegisterImage",
"Create an AMI from a snapshot".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import UNSEEN_S, Ec2, Json, tag_filters, tagged, tags_in
from warmspare.recover.aws.ec2_errors import failed
from warmspare.recover.aws.refused_deletion import is_of_the_thing, why_kept
from warmspare.recover.failover.ec2_machine import ROOT_DEVICE, Ec2Machine

AVAILABLE_S = 1800.0
NAME_CHARS = 128
_ODD = re.compile(r"[^A-Za-z0-9 ()./_-]+")


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image to be. label: of the restore point. tags: all. salt: another for each image that must be its own."""

    machine: Ec2Machine
    label: str
    tags: dict[str, str]
    salt: str = ""

    @property
    def name(self) -> str:
        """The name it has, if it exists."""
        said = json.dumps([self._content(), self.salt], sort_keys=True).encode()
        tail = f" {self.label} {hashlib.sha256(said).hexdigest()[:20]}"
        head = "warmspare " + _ODD.sub("_", self.machine.vm_name)
        return head[: NAME_CHARS - len(tail)] + tail

    def parameters(self) -> Json:
        """Of RegisterImage."""
        return {
            "Name": self.name,
            "Description": f"VM {self.machine.vm_name} at restore point {self.label}, by warmspare"[:255],
            "TagSpecifications": [tagged("image", {**self.tags, "Name": self.name})],
            **self._content(),
        }

    def _content(self) -> Json:
        """Without Architecture AWS takes i386, without BootMode whatever the instance type prefers."""
        metadata = {} if self.machine.metadata.v1 else {"ImdsSupport": "v2.0"}
        return {
            **metadata,
            "Architecture": self.machine.architecture,
            "BootMode": self.machine.boot_mode,
            "EnaSupport": True,
            "VirtualizationType": "hvm",
            "RootDeviceName": ROOT_DEVICE,
            "BlockDeviceMappings": [
                {
                    "DeviceName": disk.device,
                    "Ebs": {
                        "SnapshotId": disk.staged.snapshot_id,
                        "VolumeSize": disk.staged.volume_gib,
                        "VolumeType": "gp3",
                        "DeleteOnTermination": True,
                    },
                }
                for disk in self.machine.disks
            ],
        }


@dataclass(frozen=True, slots=True)
class Ami:
    """An image in EC2. reason, said: code and sentence of why it failed. devices: of its volumes, the root first; empty
    where EC2 does not tell."""

    id: str
    state: str
    reason: str
    said: str
    devices: tuple[str, ...]
    tags: dict[str, str]


class Images:
    """Images of one account in one region."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    async def find(self, name: str) -> Ami | None:
        """Our image of that name. AwsError."""
        return next(iter(await self._filtered([{"Name": "name", "Values": [name]}], name)), None)

    async def get(self, image_id: str) -> Ami | None:
        """By its ID; None if it is not there, or not yet. AwsError."""
        filters = [{"Name": "image-id", "Values": [image_id]}]
        return next(iter(await self._filtered(filters, image_id)), None)

    async def tagged(self, **tags: str) -> list[Ami]:
        """All of ours that carry these tags of ours. AwsError."""
        return await self._filtered(tag_filters(**tags), ", ".join(tags.values()))

    async def _filtered(self, filters: list[Json], about: str) -> list[Ami]:
        answer = await self._ec2.ask("describe_images", about=about, Owners=["self"], Filters=filters)
        return [_parse(item) for item in answer.get("Images", [])]

    async def register(self, spec: ImageSpec) -> str:
        """The ID of the image: that which is there already, or a new one. AwsError, RecoverError. A cancel may leave an
        image, which the next call finds."""
        found = await self.find(spec.name)
        if found is not None:
            return found.id
        try:
            answer = await self._ec2.ask("register_image", about=f"VM {spec.machine.vm_name}", **spec.parameters())
        except AwsError as error:
            if error.code != "InvalidAMIName.Duplicate":
                raise
            # It was made a moment ago, by a run that died or by a try whose answer was lost, and is not listed yet.
            what = "an image of this name exists and EC2 does not show it"
            image = await self._ec2.until(
                lambda: self.find(spec.name), most_s=UNSEEN_S, what=what, where=f"{spec.name}, {error.code}"
            )
            return image.id
        return str(answer["ImageId"])

    async def available(self, image_id: str) -> Ami:
        """The image once instances can be started from it. AwsError; RecoverError if it failed or is gone."""

        async def look() -> Ami | None:
            image = await self.get(image_id)
            if image is None or image.state in ("pending", "transient"):
                return None
            if image.state != "available":
                raise failed("image", image_id, image.state, image.reason, image.said)
            return image

        return await self._ec2.until(look, most_s=AVAILABLE_S, what="the image did not get ready", where=image_id)

    async def remove(self, image_id: str) -> bool:
        """Deregister it; its snapshots stay. False if AWS does not know it: it is gone for long, or was made a moment
        ago. AwsError."""
        try:
            await self._ec2.ask("deregister_image", about=image_id, ImageId=image_id)
        except AwsError as error:
            if error.code not in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
                raise (why_kept(error, image_id) if is_of_the_thing(error) else error) from error
            return error.code == "InvalidAMIID.Unavailable"
        return True


def _parse(item: dict[str, Any]) -> Ami:
    root = item.get("RootDeviceName", "")
    devices = [each["DeviceName"] for each in item.get("BlockDeviceMappings", []) if each.get("Ebs")]
    ordered = sorted(devices, key=lambda device: (device != root, device))
    why = item.get("StateReason", {})
    return Ami(
        item["ImageId"],
        item.get("State", ""),
        why.get("Code", ""),
        why.get("Message", ""),
        tuple(ordered),
        tags_in(item),
    )
