"""`warmspare hold add`, `remove` and `list`: restore points that are not to be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act

if TYPE_CHECKING:
    from warmspare.engine.requests.hold_requests import HoldAddRequest, HoldListRequest, HoldRemoveRequest

_UNTIL = "When it ends: 2027-06-30 (its end), 2027-06-30T18:00, or in how long: 90d (default: when it is removed)."


class AddOptions(options.RepositoryOptions):
    vm: options.Vm
    at: options.At = None
    reason: Annotated[str, Option("--reason", metavar="TEXT", help="Why, for whoever finds it.")] = ""
    until: Annotated[str | None, Option("--until", metavar="TIME", help=_UNTIL)] = None
    dry_run: options.DryRun = False


class RemoveOptions(options.RepositoryOptions):
    vm: options.Vm
    at: Annotated[str, Option("--at", metavar="POINT", help="The restore point.", complete="point")]
    id: Annotated[str | None, Option("--id", metavar="ID", help="The hold, where the point has several.")] = None
    dry_run: options.DryRun = False


class ListOptions(options.RepositoryOptions):
    vm: options.OneVm = None
    at: Annotated[
        str | None, Option("--at", metavar="POINT", help="Only those of this restore point.", complete="point")
    ] = None


def add(given: AddOptions) -> int:
    """Hold a restore point: it is not removed, whatever is to be kept, before the hold ends or is removed."""

    def request() -> HoldAddRequest:
        from warmspare.engine.requests.hold_requests import HoldAddRequest

        until_s = options.ahead(given.until, "--until")
        return HoldAddRequest(
            repository=given.repository(),
            vm=given.vm,
            at=given.at,
            reason=given.reason,
            until_s=until_s,
            dry_run=given.dry_run,
        )

    return act(request, given)


def remove(given: RemoveOptions) -> int:
    """Remove a hold: what is to be kept decides again whether its restore point stays."""

    def request() -> HoldRemoveRequest:
        from warmspare.engine.requests.hold_requests import HoldRemoveRequest

        return HoldRemoveRequest(
            repository=given.repository(), vm=given.vm, at=given.at, id=given.id, dry_run=given.dry_run
        )

    return act(request, given)


def listed(given: ListOptions) -> int:
    """List holds, also those that have ended."""

    def request() -> HoldListRequest:
        from warmspare.engine.requests.hold_requests import HoldListRequest

        return HoldListRequest(repository=given.repository(), vm=given.vm, at=given.at)

    return act(request, given)
