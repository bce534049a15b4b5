"""`warmspare drills`: what drills came to, how their times go, and whether all records of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter

WRONG = 5


def drills(
    vm: options.OneVm = None,
    records: options.DrillRecords = None,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=0, max=100_000, help="How many of the newest to list.")
    ] = 20,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="SHA256", help="A record that must be among them, as noted elsewhere."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show the drills of this host and their trend, and check that no record of one is missing or was edited."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.observe.kinds.drill import Drill, DrillsDone, DrillTrend, RecordWrong
        from warmspare.recover.drills.drill_record import of
        from warmspare.recover.drills.trend import trends
        from warmspare.threads import in_thread

        chain = of(options.drill_records(records))
        walked, kept = await in_thread(chain.read, head=head.lower() if head else None)
        for subject, what in walked.wrong:
            events.emit(RecordWrong(record=subject, message=what))
        shown = [
            (each, step) for each in kept for step in each.report.steps if vm is None or vm in (step.vm, step.vm_name)
        ]
        for each, step in shown[-last:] if last else []:
            events.emit(
                Drill(
                    number=each.report.number,
                    where=each.report.kind,
                    began=each.report.began,
                    vm=step.vm,
                    vm_name=step.vm_name,
                    point=step.point,
                    result=step.result,
                    reason=step.reason,
                    boot_seconds=step.boot_seconds,
                    ready_seconds=step.ready_seconds,
                    rto_seconds=step.rto_seconds,
                    within=step.within,
                    plan=each.report.plan,
                    evidence=step.evidence,
                )
            )
        for trend in trends(each.report for each in reversed(kept)):
            if vm is None or vm in (trend.vm, trend.vm_name):
                events.emit(
                    DrillTrend(
                        vm=trend.vm,
                        vm_name=trend.vm_name,
                        where=trend.kind,
                        drills=trend.drills,
                        passed=trend.passed,
                        late=trend.late,
                        last=trend.last,
                        last_result=trend.last_result,
                        last_passed=trend.last_passed or None,
                        boot_seconds=trend.boot_s,
                        median_boot_seconds=trend.median_boot_s,
                        ready_seconds=trend.ready_s,
                        median_ready_seconds=trend.median_ready_s,
                        rto_seconds=trend.rto_s,
                    )
                )
        events.emit(
            DrillsDone(
                directory=str(chain.directory),
                count=walked.count,
                wrong=len(walked.wrong),
                head=str(walked.head.path) if walked.head else None,
                sha256=walked.head.sha256 if walked.head else None,
            )
        )
        return WRONG if walked.wrong else 0

    return execute(work, as_json=json, debug=debug)
