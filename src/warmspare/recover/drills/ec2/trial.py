"""One instance that lives for a drill, with the image it is started from; owns that nothing of it stays.

Both carry the run of their drill as a tag, and until when that can be under way at most. What a drill that was killed
left is found by these tags, and ended by the next one.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from warmspare.errors import RecoverError
from warmspare.model.ids import VmKey
from warmspare.observe.housekeeping import Housekeeping
from warmspare.recover.aws.aws_errors import AwsError, denied_by_aws
from warmspare.recover.aws.ec2 import UNSEEN_S, Ec2
from warmspare.recover.failover.chosen import Chosen
from warmspare.recover.failover.ec2_machine import Ec2Machine
from warmspare.recover.failover.images.ami import Images, ImageSpec
from warmspare.recover.failover.launch import Instance, InstanceSpec, Launcher, Trying
from warmspare.recover.failover.plan import VolumeSettings

T = TypeVar("T")

RUN, UNTIL = "warmspare:drill", "warmspare:drill-until"
BESIDE_S = 3600  # that a drill may take besides the boot: image, start, end


@dataclass(frozen=True, slots=True)
class Remains:
    """What one drill has in EC2. until: when it is over for sure, by AWS's clock, RFC 3339. images, instances: IDs."""

    run: str
    until: str
    images: tuple[str, ...]
    instances: tuple[str, ...]

    def over(self, now: datetime.datetime) -> bool:
        """Whether nobody works on it any more; now: by AWS's clock. What can't be read was changed by hand: no end."""
        try:
            return datetime.datetime.fromisoformat(self.until) < now
        except (ValueError, TypeError):
            return False

    @property
    def words(self) -> str:
        return ", ".join((*self.instances, *self.images))


async def remains(ec2: Ec2, repository: str, vm: VmKey) -> list[Remains]:
    """Of all drills of a VM of a repository, both as the tags have them. AwsError."""
    of_vm = {"repository": repository, "vm": vm}
    images = [each for each in await Images(ec2).tagged(**of_vm) if RUN in each.tags]
    instances = [each for each in await Launcher(ec2).tagged(**of_vm) if RUN in each.tags and not each.gone]
    every = [each.tags for each in images] + [each.tags for each in instances]
    tags = {each[RUN]: each for each in every}
    return [
        Remains(
            run,
            of.get(UNTIL, ""),
            tuple(each.id for each in images if each.tags[RUN] == run),
            tuple(each.id for each in instances if each.tags[RUN] == run),
        )
        for run, of in sorted(tags.items())
    ]


async def remove(ec2: Ec2, found: Remains) -> None:
    """End and deregister all of it. AwsError, RecoverError of the first that failed, after all were tried."""
    await _all(
        *(Launcher(ec2).terminate(each) for each in found.instances),
        *(Images(ec2).remove(each) for each in found.images),
    )


async def _all(*work: Awaitable[object]) -> None:
    """Each to its end; then the first failure."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


class Ec2Trial:
    """The instance of one drill. lasts_s: how long it may be needed. Call `end` however it went."""

    def __init__(self, ec2: Ec2, machine: Ec2Machine, chosen: Chosen, tags: dict[str, str], lasts_s: float) -> None:
        self._ec2, self._images, self._launcher = ec2, Images(ec2), Launcher(ec2)
        self._machine, self.run = machine, secrets.token_hex(16)
        until = ec2.aws.now() + datetime.timedelta(seconds=lasts_s + BESIDE_S)
        self._tags = {
            **tags,
            **chosen.tags,
            "Name": f"drill of {machine.vm_name}"[:255],
            RUN: self.run,
            UNTIL: until.isoformat(timespec="seconds"),
        }
        self._image = ImageSpec(machine, chosen.point.id.label, self._tags, salt=self.run)
        self._asked_image = self._asked_instance = self._image_shown = False
        self.image_id = ""
        self.instance: Instance | None = None
        self._attempt = 0

    async def register(self) -> None:
        """The image, until it can be started from. AwsError, RecoverError."""
        self._asked_image = True
        try:
            self.image_id = await self._images.register(self._image)
        except AwsError as error:
            self._asked_image = error.may_be_done
            raise
        await self._images.available(self.image_id)
        self._image_shown = True

    async def start(self, types: Sequence[str], volumes: VolumeSettings, trying: Trying) -> Instance:
        """The instance, of the image; it need not run yet. Called again, it starts another in the place of one that
        died before it ran. AwsError, RecoverError."""
        self._attempt += 1
        about = f"the drill of VM {self._machine.vm_name}"
        devices = tuple(disk.device for disk in self._machine.disks)
        spec = InstanceSpec(
            self.run,
            about,
            self.image_id,
            self._machine.cards,
            devices,
            replace(volumes, keep=False),
            self._machine.metadata,
            tags=self._tags,
            ends_with_guest=True,
            attempt=self._attempt,
        )
        self._asked_instance, self.instance = True, None
        try:
            self.instance = await self._launcher.start_first(spec, types, trying)
        except AwsError as error:
            self._asked_instance = error.may_be_done
            raise
        return self.instance

    async def end(self, housekeeping: Housekeeping) -> None:
        """End the instance with its volumes, and deregister the image: also what was asked for and not answered. Both
        are tried; AwsError, RecoverError if the instance stays. An image that stays costs nothing, and its tags say
        until when it is in use."""
        await _all(self._end_instance(), self._end_image(housekeeping))

    async def _end_instance(self) -> None:
        if not self._asked_instance:
            return
        instance = self.instance
        if instance is None:  # the request failed, was cut off, or its answer was lost
            instance = await self._seen(lambda: self._launcher.find(self.run, self._machine.vm_name, self._attempt))
        if instance is not None:
            await self._known(self._launcher.terminate, instance.id)

    async def _end_image(self, housekeeping: Housekeeping) -> None:
        if not self._asked_image:
            return
        with housekeeping.trying("ec2:DeregisterImage", self.image_id or self._image.name, denied=denied_by_aws):
            await self._deregister()

    async def _deregister(self) -> None:
        image_id = self.image_id
        if not image_id:
            found = await self._seen(lambda: self._images.find(self._image.name))
            image_id = found.id if found else ""
        if image_id and not self._image_shown:
            await self._known(self._images.remove, image_id)
        elif image_id:
            await self._images.remove(image_id)

    async def _known(self, end: Callable[[str], Awaitable[bool]], identity: str) -> None:
        """End something once AWS knows it: it may have been made a moment ago."""

        async def look() -> bool | None:
            return await end(identity) or None

        await self._ec2.until(look, most_s=UNSEEN_S, what="AWS does not know what it made", where=identity)

    async def _seen(self, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """What it finds once AWS shows it; None if AWS never does: then it was not made."""
        try:
            return await self._ec2.until(look, most_s=UNSEEN_S, what="it was not made", where=self.run)
        except AwsError:
            raise
        except RecoverError:
            return None
