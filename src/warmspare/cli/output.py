"""Where events go: JSON Lines, plain lines or a terminal; refuses to let a reader that went away stop a run."""

from __future__ import annotations

import json
import os
import sys
from typing import Protocol

from warmspare.cli.wording import sentence
from warmspare.errors import StoreError, WarmspareError
from warmspare.observe.events import Event


class Output(Protocol):
    """One way of telling. `tick_s` is how often it wants a `progress` event."""

    tick_s: float

    def event(self, event: Event) -> None: ...

    def close(self) -> None: ...


def write_line(text: str) -> None:
    """A line to stdout, flushed. If nobody reads any more, the rest of the run is silent; it is not stopped."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        _silence()


def _silence() -> None:
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    except OSError:
        pass


class JsonOutput:
    """One JSON object a line."""

    tick_s = 1.0

    def event(self, event: Event) -> None:
        write_line(json.dumps(event, ensure_ascii=False))

    def close(self) -> None:
        pass


class LinesOutput:
    """Plain sentences, for logs."""

    tick_s = 10.0

    def event(self, event: Event) -> None:
        text = sentence(event)
        if text:
            write_line(text)

    def close(self) -> None:
        pass


def open_output(as_json: bool) -> Output:
    """JSON if asked for, a live display if a person is there, lines otherwise."""
    if as_json:
        return JsonOutput()
    if sys.stdout.isatty():
        from warmspare.cli.terminal import TerminalOutput  # here: only a terminal pays for it

        return TerminalOutput()
    return LinesOutput()


def error_event(error: WarmspareError) -> Event:
    """The last event of a run that failed."""
    return {
        "event": "error",
        "kind": error.kind,
        "exit_code": error.exit_code,
        "message": error.sentence,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "retryable": error.retryable,
        **({"action": error.action} if isinstance(error, StoreError) and error.action else {}),
    }


def complain(text: str) -> None:
    """A line to stderr."""
    try:
        sys.stderr.write(f"warmspare: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
