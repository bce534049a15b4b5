"""Which commands there are, where each stands and what it takes; reads none before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, get_type_hints

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
    "diff": ("diff", "diff"),
    "mount": ("recovery.mount", "mount"),
    "status": ("status", "status"),
    "prune": ("prune", "prune"),
    "hold add": ("hold_commands", "add"),
    "hold remove": ("hold_commands", "remove"),
    "hold list": ("hold_commands", "listed"),
    "vms": ("vms", "vms"),
    "failover": ("recovery.failover", "failover"),
    "failback-done": ("recovery.failback", "done"),
    "failback-export": ("recovery.failback", "export"),
    "doctor": ("doctor", "doctor"),
    "drill": ("recovery.drill", "drill"),
    "drills": ("recovery.drill_history", "drills"),
    "demo": ("demo", "demo"),
    "daemon": ("daemon", "daemon"),
    "audit replica": ("audits.audit_replica", "replica"),
    "audit repository": ("audits.audit_repository", "repository"),
    "audit source": ("audits.audit_source", "source"),
    "audit verify-report": ("audits.audit_verify", "verify_report"),
    "files ls": ("recovery.files", "ls"),
    "files get": ("recovery.files", "get"),
    "recover check": ("recovery.recover", "check"),
    "config check": ("config", "check"),
    "config example": ("config", "example"),
    "config schema": ("config", "schema"),
}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
ABOUT = "Keeps a warm spare of virtual machines: replicates what changed, verifies every block."
BEFORE = dict.fromkeys(("--json", "--debug", "--quiet", "-q", "--verbose", "-v"), 0) | dict.fromkeys(
    ("--output", "--repo", "-r", "--config", "--endpoint-url", "--state"), 1
)
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


def flag_of(word: str) -> str:
    """The option that a word begins with: `--repo` of `--repo=URI`, `-r` of `-rURI`."""
    return word.partition("=")[0] if word.startswith("--") else word[:2]
