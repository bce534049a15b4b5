"""The options of `warmspare drill`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option, fields_of
from warmspare.errors import ConfigError


class DrillOptions(options.HeldOptions):
    vm: Annotated[
        list[str],
        Option("--vm", metavar="NAME", help="The VM, as the repository calls it; of a plan repeatable.", complete="vm"),
    ] = []  # noqa: RUF012 (never changed)
    all_vms: Annotated[bool, Option("--all", help="With --plan: every VM of it.")] = False
    plan: Annotated[
        Path | None,
        Option(
            "--plan",
            metavar="FILE",
            help="Rehearse this recovery plan: its order, delays and readiness.",
            complete="file",
        ),
    ] = None
    ec2: Annotated[bool, Option("--ec2", help="Start what is staged as an instance in EC2, and end it.")] = False
    expect: Annotated[
        str | None, Option("--expect", metavar="TEXT", help="A text that must come on the serial port.")
    ] = None
    agent: Annotated[bool, Option("--agent", help="QEMU's guest agent must answer.")] = False
    timeout: Annotated[
        float | None,
        Option(
            "--timeout",
            metavar="S",
            least=1,
            most=86400,
            help="How many seconds a boot may take (default: 600, with --plan its ready_within).",
        ),
    ] = None
    evidence: Annotated[
        Path | None,
        Option(
            "--evidence",
            metavar="DIR",
            help="A new folder for the evidence (default: below the state's).",
            complete="folder",
        ),
    ] = None
    records: options.DrillRecords = None
    firmware: options.Firmware = None
    boot_disk: options.BootDisk = None
    controller: Annotated[
        str | None, Option("--controller", metavar="KIND", help="Where the disks hang: nvme (as in EC2), pvscsi, …")
    ] = None
    memory: Annotated[
        int | None, Option("--memory", metavar="MIB", help="Of the machine (default: the VM's, if free here).")
    ] = None
    hashed: Annotated[bool, Option("--hash", help="Read and hash the whole replica before and after, too.")] = False
    subnet: Annotated[str | None, Option("--subnet", metavar="ID", help="With --ec2: where; without a route out.")] = (
        None
    )
    security_group: Annotated[
        list[str], Option("--security-group", metavar="ID", help="With --ec2: without outbound rules. Repeatable.")
    ] = []  # noqa: RUF012
    clean: Annotated[bool, Option("--clean", help="With --ec2: only end what drills of these VMs have there.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be started, or with --clean ended.")] = False
    region: options.Region = None

    def refuse(self, names: Sequence[str], why: str, *, hint: str) -> None:
        """ConfigError where one of these is given. names: of fields."""
        titles = {field.name: field.title for field in fields_of(type(self))}
        for name in names:
            if getattr(self, name):
                raise ConfigError(f"{titles[name]} {why}", hint=hint)
