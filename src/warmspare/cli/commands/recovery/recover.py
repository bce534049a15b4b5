"""`warmspare recover check`: look whether a VM's disks would start in EC2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.readiness_show import ReadinessShow

if TYPE_CHECKING:
    from warmspare.engine.requests.drill_requests import ReadinessRequest


class ReadinessOptions(options.HeldOptions):
    vm: options.Vm
    firmware: options.Firmware = None
    boot_disk: options.BootDisk = None
    strict: Annotated[
        bool, Option("--strict", help="End with 7 where something is not known, and nothing stops it.")
    ] = False


def check(given: ReadinessOptions) -> int:
    """Look into a replica or a restore point, without booting, for what will stop it from starting in EC2."""
    from warmspare.engine.requests.drill_requests import ReadinessRequest

    def request() -> ReadinessRequest:
        return ReadinessRequest(
            disks=given.disks(given.vm), firmware=given.firmware, boot_disk=given.boot_disk, strict=given.strict
        )

    return act(request, given, ReadinessShow())
