"""`warmspare vms`: what is protected, what could be, and why something can't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.errors import WarmspareError

if TYPE_CHECKING:
    from warmspare.config.settings import VCenter
    from warmspare.observe.events import Events, Meter
    from warmspare.observe.kinds.source import VmListed
    from warmspare.vsphere.inventory.listing import ListedVm, Listing

STYLES = {"protected": "green", "possible": "yellow", "impossible": "red"}
MISSING = 2


def vms(config: options.Config = None, json: options.Json = False, debug: options.Debug = False) -> int:
    """List the VMs of every vCenter of the configuration: protected, possible, impossible and why."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.wiring.configured import open_session
        from warmspare.config.load import load
        from warmspare.observe.kinds.source import SourceWarning, VmsDone
        from warmspare.vsphere.inventory.listing import listing, with_twins

        settings = load(options.config_path(config))
        logins = options.shared_logins(events)
        count, missing = 0, 0
        failed: list[WarmspareError] = []
        listed: list[tuple[VCenter, Listing]] = []
        for vcenter in settings.vcenters:
            configured = [vm for vm in settings.vms if vm.vcenter == vcenter]
            try:
                async with open_session(vcenter, events, logins) as session:
                    listed.append((vcenter, await listing(session, configured)))
            except WarmspareError as error:  # the others are listed all the same
                failed.append(error)
        listings = with_twins([found for _, found in listed])
        for (vcenter, _), found in zip(listed, listings, strict=True):
            count += len(found.vms)
            missing += len(found.missing)
            if json:
                report(vcenter, found, events)
            else:
                show(vcenter, found)
        if json:
            events.emit(VmsDone(count=count, missing=missing))
        for other in failed[1:]:
            events.emit(SourceWarning(message=other.sentence))
        if failed:
            raise failed[0]
        return MISSING if missing else 0

    return execute(work, as_json=json, debug=debug)


def report(vcenter: VCenter, found: Listing, events: Events) -> None:
    """One event a VM, and one for each entry of the configuration that means none."""
    from warmspare.observe.kinds.source import VmMissing

    for one in found.vms:
        events.emit(listed(vcenter, one))
    for name, reason in found.missing:
        events.emit(VmMissing(vcenter=vcenter.name, name=name, message=reason))


def listed(vcenter: VCenter, one: ListedVm) -> VmListed:
    """A VM as an event."""
    from warmspare.observe.kinds.repository import NamedReason
    from warmspare.observe.kinds.source import VmListed

    vm = one.vm
    return VmListed(
        vcenter=vcenter.name,
        vm=vm.instance_uuid,
        vm_name=vm.name,
        path=vm.path,
        host=vm.host,
        power=vm.power,
        state=one.state,
        names=list(one.names),
        reason=one.reason,
        disks=one.disks,
        left_out=[NamedReason(name=name, reason=reason) for name, reason in one.left_out],
        change_tracking=vm.change_tracking,
        unknown=list(vm.unknown),
        twins=list(one.twins),
    )


def show(vcenter: VCenter, found: Listing) -> None:
    """A table of one vCenter."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from warmspare.cli.telling.console import PlainConsole, text
    from warmspare.vsphere.inventory.vm_info import told

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("VM", "", "as", "disks", "why"):
        table.add_column(title, overflow="fold")
    for one in found.vms:
        total = one.disks + len(one.left_out)
        reasons = [*([one.reason] if one.reason else []), *(f"{name}: {reason}" for name, reason in one.left_out)]
        if one.vm.unknown:
            reasons.append(f"not understood: {told(one.vm.unknown)}")
        why = "; ".join(reasons)
        state = text(one.state, STYLES[one.state])
        table.add_row(text(one.vm.path), state, text(", ".join(one.names)), f"{one.disks} of {total}", text(why))
    for name, reason in found.missing:
        table.add_row("", text("missing", "bold red"), text(name), "", text(reason))
    console = PlainConsole()
    console.print(text(f"vCenter {vcenter.name} ({vcenter.host})"), soft_wrap=True)
    console.print(table)
