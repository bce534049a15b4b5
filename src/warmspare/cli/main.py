"""The console command: its commands, and errors of usage in one sentence; owns no work."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from warmspare.cli.telling.output import (
    JsonOutput,
    begin,
    complain,
    final_code,
    prepare_streams,
)
from warmspare.ending import PROCESS
from warmspare.errors import ConfigError
from warmspare.version import __version__

# Each command's module and function, in the order of `--help`. A module is read when it is asked for: to read all of
# them takes longer than the work of a sync of nothing.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "init"),
    "sync": ("sync", "sync"),
    "plan": ("sync", "plan"),
    "apply": ("apply", "apply"),
    "copy": ("copy", "copy"),
    "stage": ("recovery.stage", "stage"),
    "points": ("points", "points"),
    "status": ("status", "status"),
    "prune": ("prune", "prune"),
    "vms": ("vms", "vms"),
    "failover": ("recovery.failover", "failover"),
    "failback-done": ("recovery.failback", "done"),
    "failback-export": ("recovery.failback", "export"),
    "doctor": ("doctor", "doctor"),
    "drill": ("recovery.drill", "drill"),
    "drills": ("recovery.drill_history", "drills"),
    "demo": ("demo", "demo"),
    "audit replica": ("audits.audit_replica", "replica"),
    "audit repository": ("audits.audit_repository", "repository"),
    "audit source": ("audits.audit_source", "source"),
    "audit verify-report": ("audits.audit_verify", "verify_report"),
    "recover check": ("recovery.recover", "check"),
    "config check": ("config", "check"),
    "config example": ("config", "example"),
}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
ABOUT = "Keeps a warm spare of virtual machines: replicates what changed, verifies every block."
BEFORE = {"--json": 0, "--debug": 0, "--repo": 1, "--config": 1, "--endpoint-url": 1, "--state": 1}
"""Options that may stand before the command as well as behind it, and how many words their values have."""


def command(name: str) -> Callable[[Any], int]:
    """The function of a command; its one parameter's type says which options there are."""
    module, function = COMMANDS[name]
    found: Callable[[Any], int] = getattr(importlib.import_module(f"warmspare.cli.commands.{module}"), function)
    return found


def about(function: Callable[[Any], int]) -> str:
    """What a command does, in a sentence or two."""
    return " ".join((function.__doc__ or "").split())


def options_of(function: Callable[[Any], int]) -> type[Any]:
    """The class of its options."""
    kind: type[Any] = get_type_hints(function)["given"]
    return kind


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    begin()
    try:
        words = _in_front(list(arguments))
        name = " ".join(words[:2]) if words and words[0] in GROUPS else "".join(words[:1])
        code = _run(name, words[len(name.split()) :]) if name in COMMANDS else _help(words)
    except ConfigError as wrong:
        complain(wrong.sentence)
        if "--json" in arguments:
            from warmspare.observe.kinds.run_events import Error  # here: --help needs no events

            JsonOutput().event(Error.of(wrong))
        return wrong.exit_code
    return final_code(code)


def _run(name: str, words: list[str]) -> int:
    from warmspare.cli.command_parser import parsed

    function = command(name)
    try:
        given = parsed(name, about(function), options_of(function), words)
    except SystemExit:  # of --help
        return 0
    return function(given)


def _in_front(words: list[str]) -> list[str]:
    """The same with the command first: what stands before it goes behind."""
    index = 0
    while index < len(words) and words[index].partition("=")[0] in BEFORE:
        index += 1 + (BEFORE[words[index]] if "=" not in words[index] else 0)
    if not index or index >= len(words) or words[index].startswith("-"):
        return words
    length = 2 if words[index] in GROUPS else 1
    return [*words[index : index + length], *words[:index], *words[index + length :]]


def _help(words: list[str]) -> int:
    """What there is; or what a word that is no command may have meant."""
    if words[:1] == ["help"] and len(words) > 1:
        return run([*words[1:3], "--help"])
    if words[:1] == ["--version"]:
        print(f"warmspare {__version__}")
        return 0
    if words and words[0] in GROUPS and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(_listed(f"warmspare {words[0]} COMMAND [OPTIONS]", words[0] + " "))
        return 0 if len(words) > 1 else ConfigError.exit_code
    if not words or words[0] in ("-h", "--help", "help"):
        print(_listed("warmspare COMMAND [OPTIONS]", ""))
        return 0
    known = [name for name in COMMANDS if words[0] not in GROUPS or name.startswith(words[0] + " ")]
    word = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean `warmspare {near[0]}`? " if near else ""
    kind = "option" if word.startswith("-") else "command"
    raise ConfigError(f"there is no {kind} {word.partition('=')[0]!r}", hint=f"{hint}see `warmspare --help`")


def _listed(usage: str, prefix: str) -> str:
    """The commands that begin like this, and what each is for."""
    lines = [f"Usage: {usage}", "", ABOUT, "", "Commands:"]
    for name in COMMANDS:
        if name.startswith(prefix):
            lines.append(f"  {name:<20} {about(command(name)).split('. ')[0].rstrip('.')}.")
    return "\n".join([*lines, "", "`warmspare help COMMAND` says more of one; --version shows the version."])


def main() -> None:
    """Entry point of the console command."""
    # numpy's linear algebra is not used here; its threads would only cost their start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare_streams()
    code = run(sys.argv[1:])
    PROCESS.over(code)
    sys.stdout.flush()  # what the parser printed
    sys.exit(final_code(code))
