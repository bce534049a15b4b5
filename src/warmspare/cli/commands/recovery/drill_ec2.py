"""`warmspare drill --ec2`: start what is staged of one VM in EC2, where it reaches nothing, and end it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.cli.commands.recovery.drill_plan import network

if TYPE_CHECKING:
    from warmspare.cli.commands.recovery.drill_plan import DrillOptions
    from warmspare.observe.events import Events
    from warmspare.recover.drills.evidence import DrillVerdict
    from warmspare.recover.drills.rules import Rules
    from warmspare.recover.drills.turn import DrillTurn


async def drill_ec2(asked: DrillOptions, rules: Rules, events: Events) -> int:
    """Run it to its exit code."""
    from warmspare.cli.commands.recovery.drill_plan import clean
    from warmspare.cli.wiring.recovering import recovering
    from warmspare.recover.drills import evidence as folders
    from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
    from warmspare.recover.drills.qemu import hardware
    from warmspare.recover.drills.recorder import Recorder
    from warmspare.recover.drills.rules import demand
    from warmspare.recover.failover.plan import VmPlan

    name = asked.vms[0]
    vm = VmPlan(name, name, firmware=hardware.firmware_of({}, asked.firmware))
    where = None if asked.clean else network(asked, None)
    made = recovering(None, events, repo=asked.repo, region=asked.region, endpoint_url=asked.endpoint_url, s3=asked.s3)
    async with made as (repository, ec2):
        run = Ec2Drill(repository, ec2, events)
        if where is None:
            return await clean(run, [vm], events)

        async def work(turn: DrillTurn) -> tuple[DrillVerdict, Path]:
            folder = folders.make_folder(options.state_folder("drills"), vm.vm, asked.evidence)
            return await run.run(vm, where, asked.at, rules, folder, turn=turn), folder

        recorder = Recorder(asked.records, "ec2", repository.store.uri, repository.id, events)
        demand(*await recorder.single(name, work))
    return 0
