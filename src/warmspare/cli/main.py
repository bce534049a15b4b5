"""The console command: its commands, and errors of usage in one sentence; owns no work."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from warmspare import __version__
from warmspare.cli import (
    apply,
    audit,
    config,
    copy,
    demo,
    doctor,
    drill,
    failback,
    failover,
    init,
    points,
    prune,
    recover,
    stage,
    sync,
    vms,
)
from warmspare.cli.output import JsonOutput, complain, error_event
from warmspare.errors import ConfigError

app = typer.Typer(
    name="warmspare",
    help="Keeps a warm spare of virtual machines: replicates what changed, verifies every block.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("sync")(sync.sync)
app.command("plan")(sync.plan)
app.command("apply")(apply.apply)
app.command("copy")(copy.copy)
app.command("stage")(stage.stage)
app.command("points")(points.points)
app.command("prune")(prune.prune)
app.command("vms")(vms.vms)
app.command("failover")(failover.failover)
app.command("failback-done")(failback.done)
app.command("failback-export")(failback.export)
app.command("doctor")(doctor.doctor)
app.command("drill")(drill.drill)
app.command("demo")(demo.demo)
app.add_typer(audit.app, name="audit")
app.add_typer(recover.app, name="recover")
app.add_typer(config.app, name="config")

# The parser's own errors share a base that typer does not export.
_Usage: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"warmspare {__version__}")
        raise typer.Exit(0)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        code = app(args=arguments or ["--help"], standalone_mode=False, prog_name="warmspare")
    except _Usage as error:
        message = " ".join(str(error.format_message()).split()).rstrip(".")
        wrong = ConfigError(message, hint="see `warmspare --help`")
        complain(wrong.sentence)
        if "--json" in arguments:
            JsonOutput().event(error_event(wrong))
        return wrong.exit_code
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the console command."""
    # numpy's linear algebra is not used here; its threads would only cost their start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        complain("interrupted")
        code = 130
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
