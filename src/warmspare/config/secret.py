"""A secret that the file names but does not hold; refuses to show itself, and to read what others can read.

It is read when it is needed and not before, and nothing that is printed of it holds its value: not its repr,
not an error, not a line of a command's output.
"""

from __future__ import annotations

import os
import selectors
import shlex
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal, NoReturn

from warmspare import children
from warmspare.config.problems import ConfigPlace

SECRET_BYTES = 64 << 10  # more than any password, and a bound on what a command may say
COMMAND_S = 30.0
_SAID_CHARS = 120


class Secret:
    """Where a secret comes from. Make it with `from_file`, `from_environment`, `from_command` or `plain`.

    origin: how it is read, fit to be shown: "file /etc/warmspare/pw", "environment variable X", "command pass".
    place: where the file of settings says so. No dataclass: what writes these as JSON would write this one, too.
    """

    __slots__ = ("_source", "how", "origin", "place")

    def __init__(
        self, how: Literal["file", "env", "command", "plain"], origin: str, place: ConfigPlace, source: tuple[str, ...]
    ) -> None:
        self.how, self.origin, self.place, self._source = how, origin, place, source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.how, self._source) == (other.how, other._source)

    def __hash__(self) -> int:
        return hash((self.how, self._source))

    @classmethod
    def from_file(cls, path: Path, place: ConfigPlace) -> Secret:
        return cls("file", f"file {path}", place, (str(path),))

    @classmethod
    def from_environment(cls, variable: str, place: ConfigPlace) -> Secret:
        return cls("env", f"environment variable {variable}", place, (variable,))

    @classmethod
    def from_command(cls, command: tuple[str, ...], place: ConfigPlace) -> Secret:
        """command: a program and its arguments; no shell. Only the program's name is ever shown."""
        return cls("command", f"command {command[0]}", place, command)

    @classmethod
    def plain(cls, value: str, place: ConfigPlace) -> Secret:
        """The value stands in the file of settings itself."""
        return cls("plain", "plain text in the configuration", place, (value,))

    def __repr__(self) -> str:
        return f"<secret by {self.how}>"

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    @property
    def variable(self) -> str:
        """Of the environment, where it stands there; else ""."""
        return self._source[0] if self.how == "env" else ""

    def reveal(self, environment: Mapping[str, str] | None = None) -> str:
        """The secret's value: the first line of the file or of the command's output, or the whole variable.

        environment: where variables are looked up and what a command is started with; the process's own if None.
        May take as long as the command does (at most 30 s), so keep it off an event loop. ConfigError, without
        the value, if there is none or others could read it.
        """
        env = os.environ if environment is None else environment
        if self.how == "file":
            value = self._first_line(self._read_file(Path(self._source[0])))
        elif self.how == "env":
            value = env.get(self._source[0], "")
            if self._source[0] not in env:
                raise self.place.problem(f"the {self.origin} is not set", "set it for this process")
        elif self.how == "command":
            value = self._first_line(self._run(dict(env)))
        else:
            value = self._source[0]
        if not value:
            raise self.place.problem(f"the secret of {self.origin} is empty", "fill it in")
        return value

    def _first_line(self, raw: bytes) -> str:
        try:
            return raw.split(b"\n", 1)[0].removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise self.place.problem(f"the secret of {self.origin} is not UTF-8 text", "store it as UTF-8") from None

    def _read_file(self, path: Path) -> bytes:
        quoted = shlex.quote(str(path))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)  # of what was opened, whatever the path names by now
                if not stat.S_ISREG(status.st_mode):
                    raise self.place.problem(f"the secret's {self.origin} is no regular file", "name a file")
                if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise self.place.problem(
                        f"the secret's {self.origin} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})",
                        f"run `chmod 600 {quoted}`",
                    )
                raw = os.read(descriptor, SECRET_BYTES + 1)
            finally:
                os.close(descriptor)
        except OSError as error:
            hint = "create it, readable by this user alone" if isinstance(error, FileNotFoundError) else "mend that"
            reason = error.strerror or type(error).__name__
            raise self.place.problem(f"the secret's {self.origin} can't be read: {reason}", hint) from None
        if len(raw) > SECRET_BYTES:
            raise self.place.problem(f"the secret's {self.origin} is too long for a secret", "name another")
        return raw

    def _run(self, environment: dict[str, str]) -> bytes:
        """The command's output. What it says on stderr is repeated on one short line, and only if it failed."""
        try:
            child = children.start(
                self._source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it is no name of a program"
            raise self.place.problem(f"the secret's {self.origin} can't be started: {reason}", "mend that") from None
        assert child.stdout and child.stderr
        try:
            with child.stdout, child.stderr:
                out, said = _drain(child.stdout, child.stderr, time.monotonic() + COMMAND_S)
                code = child.wait(timeout=1.0)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise self.place.problem(
                f"the secret's {self.origin} did not end within {COMMAND_S:.0f} s",
                "run it by hand as this user, without a terminal, to see what it waits for",
            ) from None
        except _TooMuchError:
            raise self.place.problem(
                f"the secret's {self.origin} prints too much for a secret", "let it print the secret alone"
            ) from None
        finally:
            children.kill(child)
            child.wait()
            children.forget(child)
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            line = _short(said, out)
            raise self.place.problem(
                f"the secret's {self.origin} failed with {how}" + (f": {line}" if line else ""),
                "run it by hand as this user",
            )
        return out


class _TooMuchError(Exception):
    """A command printed more than a secret can be."""


def _drain(out: IO[bytes], err: IO[bytes], deadline_s: float) -> tuple[bytes, bytes]:
    """Both streams to their ends, of stderr only the beginning. TimeoutError, _TooMuchError."""
    kept: dict[IO[bytes], bytearray] = {out: bytearray(), err: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            for key, _ in selector.select(left_s):
                stream = out if key.fileobj is out else err
                piece = os.read(stream.fileno(), 1 << 14)
                if not piece:
                    selector.unregister(stream)
                elif len(kept[stream]) <= SECRET_BYTES:
                    kept[stream] += piece
                if len(kept[out]) > SECRET_BYTES:
                    raise _TooMuchError
    return bytes(kept[out]), bytes(kept[err][:SECRET_BYTES])


def _short(said: bytes, out: bytes) -> str:
    """The last line of stderr, printable and short; nothing if a line of the output stands in it."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in lines[-1]).split())
    printed = (part.strip() for part in out.decode(errors="replace").splitlines())
    return "" if any(part and part in line for part in printed) else line[:_SAID_CHARS]
