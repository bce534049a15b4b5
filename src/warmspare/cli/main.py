"""The console command: its commands, and errors of usage in one sentence; owns no work."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from warmspare import __version__
from warmspare.cli.telling.output import (
    JsonOutput,
    begin,
    complain,
    final_code,
    prepare_streams,
)
from warmspare.ending import PROCESS
from warmspare.errors import ConfigError

# Each command's module and function, in the order of `--help`; a function named None stands for several commands. A
# module is read when it is asked for: to read and wire all of them takes longer than the work of a sync of nothing.
COMMANDS: dict[str, tuple[str, str | None]] = {
    "init": ("init", "init"),
    "sync": ("sync", "sync"),
    "plan": ("sync", "plan"),
    "apply": ("apply", "apply"),
    "copy": ("copy", "copy"),
    "stage": ("recovery.stage", "stage"),
    "points": ("points", "points"),
    "prune": ("prune", "prune"),
    "vms": ("vms", "vms"),
    "failover": ("recovery.failover", "failover"),
    "failback-done": ("recovery.failback", "done"),
    "failback-export": ("recovery.failback", "export"),
    "doctor": ("doctor", "doctor"),
    "drill": ("recovery.drill", "drill"),
    "drills": ("recovery.drill_history", "drills"),
    "demo": ("demo", "demo"),
    "audit": ("audits.audit", None),
    "recover": ("recovery.recover", None),
    "config": ("config", None),
}

# The parser's own errors share a base that typer does not export.
_Usage: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"warmspare {__version__}")
        raise typer.Exit(0)


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@functools.cache
def _program(asked: str) -> Callable[..., object]:
    """The command line, with the command that is asked for; with all of them where that is none. Wiring it takes longer
    than some commands do: who runs many in one process, as tests do, has it once."""
    program = typer.Typer(
        name="warmspare",
        help="Keeps a warm spare of virtual machines: replicates what changed, verifies every block.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback()(_root)
    for name in [asked] if asked in COMMANDS else COMMANDS:
        module, function = COMMANDS[name]
        found = importlib.import_module(f"warmspare.cli.commands.{module}")
        if function is None:
            program.add_typer(found.app, name=name)
        else:
            program.command(name)(getattr(found, function))
    return typer.main.get_command(program)


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    arguments = arguments or ["--help"]
    begin()
    try:
        program = _program(arguments[0] if arguments[0] in COMMANDS else "")
        code = program(args=arguments, standalone_mode=False, prog_name="warmspare")
    except _Usage as error:
        message = " ".join(str(error.format_message()).split()).rstrip(".")
        wrong = ConfigError(message, hint="see `warmspare --help`")
        complain(wrong.sentence)
        if "--json" in arguments:
            from warmspare.observe.kinds.run_events import Error  # here: --help needs no events

            JsonOutput().event(Error.of(wrong))
        return wrong.exit_code
    return final_code(code if isinstance(code, int) else 0)


def main() -> None:
    """Entry point of the console command."""
    # numpy's linear algebra is not used here; its threads would only cost their start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare_streams()
    code = run(sys.argv[1:])
    PROCESS.over(code)
    sys.stdout.flush()  # what the parser printed
    sys.exit(final_code(code))
