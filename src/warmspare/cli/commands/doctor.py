"""`warmspare doctor`: can what a sync depends on be used, looked at before the first run; owns the checks' order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError, WarmspareError

if TYPE_CHECKING:
    from warmspare.config.settings import RepositorySettings, Settings
    from warmspare.observe.events import Events, Meter
    from warmspare.source.identity import Identity
    from warmspare.source.vddk.vddk_doctor import Check

WRONG = 2
STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}

Section = tuple[str, "list[Check]"]


def doctor(
    vddk: Annotated[
        Path | None,
        typer.Option("--vddk", metavar="DIR", help="Only a VDDK: the folder with lib64 that it was unpacked to."),
    ] = None,
    config: options.Config = None,
    vm: Annotated[
        list[str] | None, typer.Option("--vm", metavar="NAME", help="Only these VMs of the configuration.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check VDDK, repositories, vCenter, and each VM: privileges, change tracking, snapshots, its host's port."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.observe.kinds.setup import DoctorCheck, DoctorDone

        if vddk is not None:
            if config is not None or vm:
                raise ConfigError("--vddk checks a VDDK alone", hint="leave out --config and --vm, or --vddk")
            from warmspare.source.vddk.vddk_doctor import examine

            sections: list[Section] = [(f"VDDK in {vddk}", await examine(vddk))]
        else:
            from warmspare.config.load import load

            sections = await _configured(load(options.config_path(config)), vm or [], events)
        checks = [check for _, section in sections for check in section]
        wrong = sum(check.state == "wrong" for check in checks)
        if json:
            for subject, section in sections:
                for check in section:
                    events.emit(
                        DoctorCheck(
                            subject=subject,
                            name=check.name,
                            state=check.state,
                            found=check.found,
                            meaning=check.meaning,
                        )
                    )
            events.emit(DoctorDone(wrong=wrong, notes=sum(check.state == "note" for check in checks)))
        else:
            for subject, section in sections:
                show(subject, section)
        return WRONG if wrong else 0

    return execute(work, as_json=json, debug=debug)


async def _configured(settings: Settings, names: list[str], events: Events) -> list[Section]:
    """Everything that the VMs of the configuration depend on."""
    from warmspare.cli.wiring.configured import chosen, open_session
    from warmspare.repository.repository_doctor import wrong
    from warmspare.source.identity import twins
    from warmspare.source.vddk import vddk_doctor
    from warmspare.source.vddk.vddk_doctor import Check
    from warmspare.vsphere.inventory.find import find
    from warmspare.vsphere.inventory.neighbours import identity_of
    from warmspare.vsphere.vm_doctor import examine

    vms = chosen(settings, names)
    logins = options.shared_logins(events, again=True)
    sections: list[Section] = []
    for directory, config in dict.fromkeys((vm.vcenter.vddk, vm.vcenter.vddk_config) for vm in vms):
        sections.append((f"VDDK in {directory}", await vddk_doctor.examine(directory, config)))
    for repository in dict.fromkeys(vm.repository for vm in vms):
        sections.append((f"repository {repository.name}", await _repository(repository)))
    met: list[tuple[int, str, Identity]] = []  # section, repository, which VM
    for vcenter in dict.fromkeys(vm.vcenter for vm in vms):
        subject = f"vCenter {vcenter.name}"
        try:
            async with open_session(vcenter, events, logins) as session:
                for vm in [vm for vm in vms if vm.vcenter == vcenter]:
                    try:
                        for info in await find(session, vm.find):
                            checks = await examine(session, info, vm.policy)
                            met.append((len(sections), vm.repository.uri, identity_of(session, info)))
                            sections.append((f"VM {info.name} of {vcenter.name}", checks))
                    except ConfigError as error:
                        sections.append((f"VM {vm.name} of {vcenter.name}", [wrong("VM", error)]))
        except WarmspareError as error:
            sections.append((subject, [wrong("vCenter", error)]))
    same = twins((uri, identity) for _, uri, identity in met)
    for at, uri, identity in met:
        places = same.get((uri, identity.instance_uuid), [])
        if others := [str(place) for place in places if not place.same(identity.place)]:
            found = f"its instance UUID {identity.instance_uuid} is that of {' and '.join(others)} too"
            hint = "give one of them another one, or take it out of the configuration: neither is synced like this"
            sections[at][1].append(Check("identity", "wrong", found, hint))
    return sections


async def _repository(repository: RepositorySettings) -> list[Check]:
    from warmspare.cli.wiring.opening_store import open_configured
    from warmspare.repository.repository_doctor import examine_repository, wrong

    try:
        store = open_configured(repository)
    except WarmspareError as error:
        return [wrong("repository", error)]
    try:
        return await examine_repository(store, single_sender=repository.single_sender)
    finally:
        await store.close()


def show(subject: str, checks: list[Check]) -> None:
    """One readable table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from warmspare.cli.telling.console import PlainConsole, text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("check", "", "found", "what it means"):
        table.add_column(title, overflow="fold")
    for check in checks:
        table.add_row(text(check.name), text(check.state, STYLES[check.state]), text(check.found), text(check.meaning))
    console = PlainConsole()
    console.print(text(subject), soft_wrap=True)
    console.print(table)
