"""`warmspare recover`: what belongs to a recovery besides the recovery itself; `check` looks whether it would work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.disks.open_disk import Held
    from warmspare.recover.disks.origin import Origin
    from warmspare.recover.readiness.check import Ready

app = typer.Typer(help="Look whether a VM's disks would start in EC2.", no_args_is_help=True)
NOT_KNOWN = 7
STYLES = {"stops": "bold red", "warning": "yellow", "note": "cyan"}


@app.callback()
def _root() -> None:
    pass


@app.command("check")
def check(
    vm: options.Vm,
    replica: options.HeldReplica = None,
    repo: options.HeldRepo = None,
    at: options.HeldAt = None,
    firmware: options.Firmware = None,
    boot_disk: options.BootDisk = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 7 where something is not known, and nothing stops it.")
    ] = False,
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Look into a replica or a restore point, without booting, for what will stop it from starting in EC2."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from dataclasses import replace

        from warmspare.cli.wiring.readable_disks import DisksChoice, with_disks
        from warmspare.observe.kinds.readiness import CheckDone
        from warmspare.recover.drills.qemu.hardware import firmware_of
        from warmspare.recover.drills.rules import BootError
        from warmspare.recover.readiness.boot_kinds import BootSeverity
        from warmspare.recover.readiness.check import look

        async def looked(held: Held, of: Origin) -> tuple[Ready, Origin, str]:
            of = replace(of, boots=boot_disk)
            ready = await look(of.ordered(held.disks), firmware_of(of.hardware, firmware))
            return ready, of, held.point.label

        choice = DisksChoice(vm, replica, repo, at, state, endpoint_url, s3)
        ready, of, point = await with_disks(choice, events, looked)
        if json:
            for finding in ready.findings:
                events.emit(finding.event(of.vm, point))
        else:
            _show(f"VM {of.vm_name} at restore point {point}", ready)
        count = {each: sum(finding.severity is each for finding in ready.findings) for each in BootSeverity}
        events.emit(
            CheckDone(
                vm=of.vm,
                point=point,
                stops=count[BootSeverity.STOPS],
                warnings=count[BootSeverity.WARNING],
                notes=count[BootSeverity.NOTE],
                not_known=ready.not_known,
                seen=ready.seen,
            )
        )
        if count[BootSeverity.STOPS]:
            first = next(each for each in ready.findings if each.severity is BootSeverity.STOPS)
            raise BootError(
                f"VM {of.vm_name!r} will not start in EC2 from restore point {point}: {first.meaning}",
                where=f"{first.disk}, {first.place}",
                hint=first.remedy,
            )
        return NOT_KNOWN if strict and ready.not_known else 0

    return execute(work, as_json=json, debug=debug)


def _show(title: str, ready: Ready) -> None:
    """What was looked at, and each finding with what to do."""
    from warmspare.cli.telling.console import PlainConsole, text

    console = PlainConsole()
    console.print(text(title), soft_wrap=True)
    for line in ready.seen:
        console.print(text(f"  {line}"), soft_wrap=True)
    for finding in ready.findings:
        head = text(finding.severity, STYLES[finding.severity]).append_text(text(f" {finding.disk}, {finding.place}"))
        console.print()
        console.print(head, soft_wrap=True)
        if finding.found:
            console.print(text(f"  found    {finding.found}"), soft_wrap=True)
        console.print(text(f"  meaning  {finding.meaning}"), soft_wrap=True)
        console.print(text(f"  remedy   {finding.remedy}"), soft_wrap=True)
    console.print()
