"""`warmspare failover`: staged restore points to running instances."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.failover.plan import RecoveryPlan, VmPlan

MISSING = 2


def failover(
    vm: Annotated[
        list[str] | None,
        typer.Option("--vm", metavar="NAME", help="A VM of the plan; without one, of the repository. Repeatable."),
    ] = None,
    all_vms: Annotated[bool, typer.Option("--all", help="Every VM of the plan.")] = False,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="The recovery plan: networks, sizes, order.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="POINT", help="A restore point by number or label (default: the newest staged)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what is missing; change nothing.")
    ] = False,
    via: Annotated[
        str | None,
        typer.Option("--via", metavar="HOW", help="register-image (minutes) or import-image (an hour; licences)."),
    ] = None,
    repo: Annotated[
        str | None, typer.Option("--repo", metavar="URI", help="The repository, where the plan does not name it.")
    ] = None,
    region: options.Region = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Start VMs in EC2 from what is staged. Run it again if it was interrupted: it goes on."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.wiring.recovering import recovering
        from warmspare.observe.kinds.failover import FailoverDone, FailoverPlanned
        from warmspare.recover.drills.rules import BootError
        from warmspare.recover.failover.failover_run import Failover
        from warmspare.recover.readiness.outlook import NOT_KNOWN, STOPS

        began = time.monotonic()
        whole = _load(plan, dry_run)
        plans = _chosen(whole, vm or [], all_vms, via)
        if at is not None and len(plans) != 1:
            raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME once")
        where = recovering(whole, events, repo=repo, region=region, endpoint_url=endpoint_url, s3=s3)
        async with where as (repository, ec2):
            run = Failover(repository, ec2, plans, events)
            prepared = await run.prepare(at)
            scratch = options.state_folder("points")
            prepared, outlooks = await run.looked_into(prepared, scratch, every=dry_run)
            if dry_run:
                run.show(prepared)
                missing = sum(len(one.lacking) for one in prepared)
                answers = [each.answer for each in outlooks]
                stops, unknown = answers.count(STOPS), answers.count(NOT_KNOWN)
                events.emit(FailoverPlanned(vms=len(prepared), missing=missing, stops=stops, not_known=unknown))
                if missing:
                    what = f"{missing} things are" if missing > 1 else "one thing is"
                    raise ConfigError(f"{what} missing for this failover, as is said above")
                if stops:
                    said = "what stops them is said above"
                    raise BootError(f"{stops} of {len(prepared)} VMs will not start in EC2 as they are: {said}")
                return 0
            recovered = await run.run(prepared)
        events.emit(FailoverDone(vms=len(recovered), seconds=round(time.monotonic() - began, 3)))
        return 0

    return execute(work, as_json=json, debug=debug)


def _load(path: Path | None, every_problem: bool) -> RecoveryPlan | None:
    """The plan; if it is wrong, all that is wrong with it goes to stderr first where that is wanted."""
    from warmspare.cli.telling.output import complain
    from warmspare.cli.wiring.planfile import load_plan
    from warmspare.config.problems import SettingsError

    if path is None:
        return None
    try:
        return load_plan(path)
    except SettingsError as error:
        if len(error.problems) == 1:
            raise error.problems[0] from None
        if not every_problem:
            raise
        for problem in error.problems:
            complain(problem.sentence)
        what = f"the recovery plan has {len(error.problems)} errors"
        raise ConfigError(what, where=str(path), hint="correct them, each as it is said, and run this again") from None


def _chosen(plan: RecoveryPlan | None, names: list[str], everything: bool, via: str | None) -> list[VmPlan]:
    from typing import cast, get_args

    from warmspare.cli.wiring.planfile import chosen, demand_choice
    from warmspare.config import values
    from warmspare.recover.failover.plan import Via, VmPlan

    try:
        how = None if via is None else cast("Via", values.choice(get_args(Via))(via))
    except ConfigError as error:
        raise ConfigError(error.what, where="--via") from None
    if plan is None:
        demand_choice(names, everything)
        if everything:
            raise ConfigError("--all means the VMs of a plan, and none is given", hint="give --plan FILE")
        return [VmPlan(name, name).by(how) for name in dict.fromkeys(names)]
    return [vm.by(how) for vm in chosen(plan, names, everything)]
