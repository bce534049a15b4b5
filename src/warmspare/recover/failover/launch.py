"""One instance: started from an image, found again, awaited, looked at, terminated; refuses to know of plans and VMs.

RunInstances takes a client token, and AWS keeps it for a day at least: the same request with the same token gives the
same instance. Instances carry their run as a tag too, which is looked for first, for it stays. AWS documents: "Ensuring
idempotency in Amazon EC2 API requests", "Status checks for Amazon EC2 instances".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmspare.errors import RecoverError
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import UNSEEN_S, Ec2, Json, tag_filters, tagged, tags_in
from warmspare.recover.aws.ec2_errors import NO_CAPACITY, died, ended, failed_to_launch
from warmspare.recover.failover.ec2_machine import Card
from warmspare.recover.failover.plan import Metadata, VolumeSettings

ATTEMPT = "warmspare:attempt"  # the tag; where it is not, it is of the first
HOPS = 2  # of a metadata token: to containers in the guest, and no further
GONE = ("shutting-down", "terminated")
TERMINATED_S = 600.0

Trying = Callable[[str, str], Awaitable[None]]
"""Hears which type is tried next, and which AWS had no room for just now ("" for none)."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """An instance to be. run, attempt: the same are the same instance; another attempt is due where the one before
    died before it ran. image_id: of an available image.
    cards: empty for EC2's default network. devices: of the image's volumes, for what `volumes` says. ends_with_guest:
    it is terminated when its guest shuts down, not stopped."""

    run: str
    about: str
    image_id: str
    cards: tuple[Card, ...]
    devices: tuple[str, ...]
    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    metadata: Metadata = field(default_factory=Metadata)
    key_pair: str | None = None
    instance_profile: str | None = None
    user_data: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    ends_with_guest: bool = False
    attempt: int = 1

    def token(self, instance_type: str) -> str:
        """Of the request for one type."""
        again = f"{self.attempt} " if self.attempt > 1 else ""
        return hashlib.sha256(f"{self.run} {again}{instance_type}".encode()).hexdigest()

    def parameters(self, instance_type: str) -> Json:
        """Of RunInstances. One instance, never more."""
        tags = {**self.tags, "warmspare:run": self.run, ATTEMPT: str(self.attempt)}
        kinds = ["instance", "volume"] + (["network-interface"] if self.cards else [])
        out: Json = {
            "ImageId": self.image_id,
            "InstanceType": instance_type,
            "MinCount": 1,
            "MaxCount": 1,
            "ClientToken": self.token(instance_type),
            "TagSpecifications": [tagged(kind, tags) for kind in kinds],
            "MetadataOptions": _metadata(self.metadata),
            "BlockDeviceMappings": [{"DeviceName": device, "Ebs": self._volume()} for device in self.devices],
        }
        if self.cards:
            out["NetworkInterfaces"] = [_interface(number, card) for number, card in enumerate(self.cards)]
        if self.key_pair:
            out["KeyName"] = self.key_pair
        if self.instance_profile:
            out["IamInstanceProfile"] = {"Name": self.instance_profile}
        if self.user_data:
            out["UserData"] = self.user_data  # the client encodes it
        if self.ends_with_guest:
            out["InstanceInitiatedShutdownBehavior"] = "terminate"
        return out

    def _volume(self) -> Json:
        out: Json = {"DeleteOnTermination": not self.volumes.keep, "VolumeType": self.volumes.type}
        if self.volumes.iops is not None:
            out["Iops"] = self.volumes.iops
        if self.volumes.throughput_mib_s is not None:
            out["Throughput"] = self.volumes.throughput_mib_s
        if self.volumes.initialization_mib_s is not None:
            out["VolumeInitializationRate"] = self.volumes.initialization_mib_s
        return out


def _metadata(of: Metadata) -> Json:
    """All of it is said: what is not, AWS takes from the image, the account or an organisation's defaults. AWS
    documents: "Order of precedence for instance metadata options"."""
    return {
        "HttpEndpoint": "enabled",
        "HttpTokens": "optional" if of.v1 else "required",
        "HttpPutResponseHopLimit": HOPS,
        "InstanceMetadataTags": "enabled" if of.tags else "disabled",
    }


def _interface(number: int, card: Card) -> Json:
    out: Json = {"DeviceIndex": number, "SubnetId": card.subnet, "DeleteOnTermination": True}
    if card.security_groups:
        out["Groups"] = list(card.security_groups)
    if card.ip:
        out["PrivateIpAddress"] = card.ip
    if card.port_group:
        out["Description"] = f"port group {card.port_group}"[:255]
    return out


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance in EC2. state: pending, running, stopping, stopped, shutting-down, terminated. reason, said: code and
    sentence of why it changed last. volumes: their IDs by device, the root first."""

    id: str
    state: str
    reason: str
    said: str
    ip: str
    type: str
    root_device: str
    volumes: dict[str, str]
    tags: dict[str, str]

    @property
    def gone(self) -> bool:
        return self.state in GONE

    @property
    def failed_to_launch(self) -> bool:
        """Whether AWS itself says that it ended before it ran: it is no instance then."""
        return self.gone and failed_to_launch(self.reason)


class DiedError(RecoverError):
    """An instance that ended before it ran: it is none, and another may be started in its place."""

    def __init__(self, instance: Instance) -> None:
        said = died(instance.id, instance.state, instance.reason, instance.said)
        super().__init__(said.what, where=said.where, hint=said.hint, retryable=True)
        self.instance = instance


@dataclass(frozen=True, slots=True)
class Checks:
    """AWS's two status checks of an instance; "" until it is shown. system: `ok` if the host is well. guest: `ok` if
    the guest answers on its network card."""

    state: str = ""
    system: str = ""
    guest: str = ""

    @property
    def passed(self) -> bool:
        return self.system == self.guest == "ok"


class Launcher:
    """Instances of one account in one region."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    async def find(self, run: str, about: str, attempt: int = 1) -> Instance | None:
        """The instance of that run and attempt, in any state; one that lives before one that does not. AwsError."""
        found = await self._filtered(tag_filters(run=run), about)
        mine = (one for one in found if of_attempt(one.tags, attempt))
        return min(mine, key=lambda one: one.gone, default=None)

    async def tagged(self, **tags: str) -> list[Instance]:
        """All that carry these tags of ours, in whatever state. AwsError."""
        return await self._filtered(tag_filters(**tags), ", ".join(tags.values()))

    async def _filtered(self, filters: list[Json], about: str) -> list[Instance]:
        found = self._ec2.pages("describe_instances", "Reservations", about=about, Filters=filters)
        return [_parse(item) async for reservation in found for item in reservation.get("Instances", [])]

    async def start(self, spec: InstanceSpec, instance_type: str) -> Instance:
        """Start it, or find the one that was started with the same run and type. AwsError. A cancel may leave an
        instance, which `find` or the same call finds."""
        about = f"{spec.about} as {instance_type}"
        answer = await self._ec2.ask("run_instances", about=about, **spec.parameters(instance_type))
        return _parse(answer["Instances"][0])

    async def start_first(self, spec: InstanceSpec, instance_types: Sequence[str], trying: Trying) -> Instance:
        """Start it as the first of the types that AWS has room for. trying: awaited before each. AwsError of the last;
        a cancel as with `start`."""
        refused = ""
        for name in instance_types:
            await trying(name, refused)
            try:
                return await self.start(spec, name)
            except AwsError as error:
                if error.code not in NO_CAPACITY or name == instance_types[-1]:
                    raise
                refused = name
        raise AssertionError("there is a type to try")

    async def get(self, instance_id: str) -> Instance | None:
        """By its ID; None if EC2 does not show it (yet). AwsError."""
        found = await self._filtered([{"Name": "instance-id", "Values": [instance_id]}], instance_id)
        return found[0] if found else None

    async def running(self, instance_id: str, *, most_s: float, fresh: bool = False) -> Instance:
        """The instance once it runs. DiedError if it ended before that, RecoverError if it was ended, or after most_s;
        AwsError. fresh: it was started a moment ago, and not by a run before this one.

        That it never ran is known where AWS says so, and where it was seen to start, and at the next look was gone.
        """
        starting = fresh

        async def look() -> Instance | None:
            nonlocal starting
            instance = await self.get(instance_id)
            if instance is None or instance.state == "running":
                return instance
            if instance.gone and (starting or instance.failed_to_launch):
                raise DiedError(instance)
            if instance.state != "pending":
                raise ended(instance_id, instance.state, instance.reason, instance.said)
            starting = True
            return None

        what = f"the instance does not run after {most_s:.0f} s"
        return await self._ec2.until(look, most_s=max(most_s, UNSEEN_S), what=what, where=instance_id)

    async def checks(self, instance_id: str) -> Checks:
        """What AWS's status checks say now. AwsError."""
        try:
            answer = await self._ec2.ask(
                "describe_instance_status", about=instance_id, IncludeAllInstances=True, InstanceIds=[instance_id]
            )
        except AwsError as error:
            if error.code != "InvalidInstanceID.NotFound":  # not shown yet
                raise
            return Checks()
        for item in answer.get("InstanceStatuses", []):
            system, guest = (item.get(kind, {}).get("Status", "") for kind in ("SystemStatus", "InstanceStatus"))
            return Checks(item.get("InstanceState", {}).get("Name", ""), system, guest)
        return Checks()

    async def checked(self, instance_id: str, *, most_s: float) -> None:
        """Return once both of AWS's status checks pass. RecoverError after most_s; AwsError.

        They say that the host is well and that the guest answers on its network card; not that its services do.
        """

        async def look() -> bool | None:
            checks = await self.checks(instance_id)
            if checks.state in (*GONE, "stopping", "stopped"):
                gone = await self.get(instance_id)
                raise ended(instance_id, checks.state, gone.reason if gone else "", gone.said if gone else "")
            return True if checks.passed else None

        what = f"the instance runs and does not pass its status checks after {most_s:.0f} s"
        try:
            await self._ec2.until(look, most_s=most_s, what=what, where=instance_id)
        except RecoverError as error:
            if error.what != what:
                raise
            hint = (
                f"look at its console output (`aws ec2 get-console-output --latest --instance-id {instance_id}`), mend "
                "the guest, and run again to wait on"
            )
            raise RecoverError(what, where=instance_id, hint=hint, retryable=True) from None

    async def console_output(self, instance_id: str) -> str:
        """What the guest wrote to its serial port so far, the last 64 KiB; "" for nothing. AwsError.

        Types that are not on Nitro have no latest output: of them AWS gives what it kept, minutes old.
        """
        try:
            answer = await self._ec2.ask("get_console_output", about=instance_id, InstanceId=instance_id, Latest=True)
        except AwsError as error:
            if error.code != "UnsupportedOperation":
                raise
            answer = await self._ec2.ask("get_console_output", about=instance_id, InstanceId=instance_id)
        return str(answer.get("Output") or "")

    async def screenshot(self, instance_id: str) -> bytes:
        """What its screen shows, a JPEG. AwsError; RecoverError if AWS gives none."""
        answer = await self._ec2.ask("get_console_screenshot", about=instance_id, InstanceId=instance_id)
        try:
            return base64.b64decode(str(answer["ImageData"]), validate=True)
        except (KeyError, ValueError):
            raise RecoverError("AWS gave no screenshot", where=instance_id, retryable=True) from None

    async def terminate(self, instance_id: str) -> bool:
        """End it for good and wait until it is; False if AWS does not know it: it is gone, or was made a moment ago.
        AwsError, RecoverError."""
        try:
            await self._ec2.ask("terminate_instances", about=instance_id, InstanceIds=[instance_id])
        except AwsError as error:
            if error.code == "InvalidInstanceID.NotFound":
                return False
            raise

        async def look() -> bool | None:
            instance = await self.get(instance_id)
            # One that is not shown is not shown yet: AWS shows what has ended for an hour.
            return True if instance is not None and instance.state == "terminated" else None

        what = "the instance does not end"
        return await self._ec2.until(look, most_s=TERMINATED_S, what=what, where=instance_id)


def of_attempt(tags: dict[str, str], attempt: int) -> bool:
    """Whether what carries these tags was made by that attempt of its run."""
    return tags.get(ATTEMPT, "1") == str(attempt)


def _parse(item: dict[str, Any]) -> Instance:
    root = item.get("RootDeviceName", "")
    volumes = {
        each["DeviceName"]: each["Ebs"]["VolumeId"] for each in item.get("BlockDeviceMappings", []) if "Ebs" in each
    }
    ordered = {device: volumes[device] for device in sorted(volumes, key=lambda device: (device != root, device))}
    return Instance(
        id=item["InstanceId"],
        state=item.get("State", {}).get("Name", ""),
        reason=item.get("StateReason", {}).get("Code", ""),
        said=item.get("StateReason", {}).get("Message", ""),
        ip=item.get("PrivateIpAddress", ""),
        type=item.get("InstanceType", ""),
        root_device=root,
        volumes=ordered,
        tags=tags_in(item),
    )
