"""Where events go: JSON Lines, plain lines or a terminal; refuses to let a reader that went away stop a run, and any
text to act on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from warmspare.cli.telling.tone import USUAL, Tone
from warmspare.errors import StoreError
from warmspare.outside.text import json_safe, shown

if TYPE_CHECKING:
    from warmspare.observe.event import Event


class Output(Protocol):
    """One way of telling. `tick_s` is how often it wants a `progress` event."""

    tick_s: float

    def event(self, event: Event) -> None: ...

    def close(self) -> None:
        """A live display goes; what comes now are sentences."""

    def end(self) -> None:
        """Nothing comes any more."""


class _Voice:
    """What the process said so far could be written, or not."""

    def __init__(self) -> None:
        self.lost = ""  # why something could not be written, other than that nobody reads any more


_voice = _Voice()


def write_line(text: str) -> None:
    """A line of text to stdout, flushed, with what acts or hides in it as escapes."""
    write_raw(shown(text) + "\n")


def write_raw(text: str) -> None:
    """To stdout as it is, flushed: for what is escaped already. If nobody reads any more, the rest of the run is
    silent; it is not stopped. If it can't be written for another reason, that is said once, and `final_code` knows."""
    stream = Stdout(sys.stdout)
    stream.write(text)
    stream.flush()


def unheard(error: OSError | ValueError) -> None:
    """Something could not be written to stdout; the rest of what is said goes nowhere."""
    silence()
    if isinstance(error, BrokenPipeError) or _voice.lost:
        return
    _voice.lost = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    complain(f"what this command says can't be written to its standard output: {_voice.lost}; it goes on without")


def silence() -> None:
    """From now on stdout goes nowhere."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    except OSError:
        pass


def begin() -> None:
    """A command begins: nothing of it was lost."""
    _voice.lost = ""


def final_code(code: int) -> int:
    """The exit code of a command whose work ended with `code`: what was lost on the way to stdout is no success."""
    return StoreError.exit_code if _voice.lost and not code else code


def prepare_streams() -> None:
    """The process's three streams as this program needs them: there, and able to say anything.

    A descriptor that was closed would be given to the next file that is opened, and what is printed would go into it. A
    character that the encoding lacks is said as an escape. What goes to stderr passes `shown`, whoever writes it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    sys.stdout = Stdout(_able(sys.stdout, 1))
    sys.stderr = Plain(_able(sys.stderr, 2))


def _able(stream: TextIO | None, fd: int) -> TextIO:
    if stream is None:
        stream = open(fd, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    with contextlib.suppress(OSError, ValueError):
        if not os.get_blocking(fd):  # whoever has it too made it so; half a line would be lost
            os.set_blocking(fd, True)
    return stream


class _Through(io.TextIOBase):
    """A stream of text in front of another."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO = getattr(stream, "rich_proxied_file", stream)  # not the terminal library's own

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """The stream is not this one's to close. This also comes when the collector finds it, at any time later: the
        base would flush then, and what another command says would be taken for lost where the stream is gone."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True


class Stdout(_Through):
    """stdout: whatever can't be written stops nothing, see `unheard`."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (OSError, ValueError) as error:
            unheard(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except (OSError, ValueError) as error:
            unheard(error)


class Plain(_Through):
    """stderr: nothing that is written to it acts on a terminal, whoever writes it."""

    def write(self, text: str) -> int:
        return super().write(shown(text, lines=True))


def json_line(record: dict[str, Any]) -> str:
    """A record as a line of JSON that any stdout can say: each value is the same for who decodes it."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    try:
        text = json.dumps(record, ensure_ascii=not unicode, allow_nan=False)
    except ValueError:  # a number that JSON has not
        text = json.dumps(_finite(record), ensure_ascii=not unicode)
    return json_safe(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonOutput:
    """One JSON object a line."""

    tick_s = 1.0

    def event(self, event: Event) -> None:
        from warmspare.observe.event import record_of  # here: --help needs no events

        write_raw(json_line(record_of(event)) + "\n")

    def close(self) -> None:
        pass

    def end(self) -> None:
        pass


class DocumentOutput:
    """One JSON document at the end: an array of the events, without `progress`. Whoever reads it has all of it, or
    nothing."""

    tick_s = 60.0

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._ended = False

    def event(self, event: Event) -> None:
        from warmspare.observe.event import record_of
        from warmspare.observe.kinds.run_events import Progress

        if not isinstance(event, Progress):
            self._lines.append(json_line(record_of(event)))

    def close(self) -> None:
        pass

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            write_raw("[" + ",\n ".join(self._lines) + "]\n")


class LinesOutput:
    """Plain sentences, for logs."""

    tick_s = 10.0

    def __init__(self, tone: Tone = USUAL) -> None:
        self._tone = tone

    def event(self, event: Event) -> None:
        text = self._tone.words(event)
        if text:
            write_line(text)

    def close(self) -> None:
        pass

    def end(self) -> None:
        pass


class Show:
    """How a command shows to a person what it tells: some events in its own way, and what comes at its end."""

    def event(self, event: Event) -> bool:
        """Whether it was shown; otherwise it is told as all are."""
        return False

    def end(self, result: Any) -> None:
        """The value that was asked for is there."""


FAILED = "sync.failed"


class ShownOutput:
    """An output with a command's own way of showing before it, and before both what is not to be told. That one of
    several VMs failed goes to stderr too."""

    def __init__(self, output: Output, show: Show | None, tone: Tone) -> None:
        self._output, self._show, self._tone = output, show, tone
        self._grave = False  # something was told that somebody should know
        self.tick_s = output.tick_s

    def event(self, event: Event) -> None:
        from warmspare.observe.event import Weight, name_of  # here: --help needs no events

        if name_of(event) == FAILED:
            complain(str(getattr(event, "message")))  # noqa: B009 (its struct is read by who tells it alone)
        if not self._tone.tells(event):
            return
        self._grave |= event.weight() in (Weight.WARNING, Weight.ALARM)
        if self._show is None or not self._show.event(event):
            self._output.event(event)

    def result(self, result: Any) -> None:
        """Of a person: the value that was asked for is there."""
        if self._show is not None and (self._grave or not self._tone.quiet):
            self._show.end(result)

    def close(self) -> None:
        self._output.close()

    def end(self) -> None:
        self._output.end()


def open_output(tone: Tone) -> Output:
    """JSON if asked for, a live display if a person is there, lines otherwise."""
    if tone.as_json:
        return DocumentOutput() if tone.form == "json" else JsonOutput()
    if sys.stdout.isatty():
        from warmspare.cli.telling.terminal import TerminalOutput  # here: only a terminal pays for it

        return TerminalOutput(tone)
    return LinesOutput(tone)


def complain(text: str) -> None:
    """A line to stderr."""
    try:
        sys.stderr.write(f"warmspare: {shown(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
