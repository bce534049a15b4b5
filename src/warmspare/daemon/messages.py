"""What a client and the daemon say to each other; owns the protocol, and no socket.

    client                             daemon
           ◄──────────────── Greeting
    Ask    ───────────────►
           ◄──────────────── Declined, and nothing more
           ◄──────────────── Begun
           ◄──────────────── EventTold, Owes, Begins, Settles …
    Cancel ───────────────►  (any time after Ask; closing the connection says the same)
           ◄──────────────── RunEnded or RunFailed

A message is its length, four bytes with the first the most significant, and so many of JSON. Declined may come at once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warmspare.daemon.surroundings import Surroundings

PROTOCOL = 1  # changes with anything that is said
MOST_ASKED_BYTES = 1 << 20  # of one message of a client
MOST_TOLD_BYTES = 64 << 20  # and of the daemon
LENGTH_BYTES = 4


class Message(msgspec.Struct, frozen=True, tag_field="is", tag=True):
    """Base of all."""


class Greeting(Message, frozen=True):
    """nonce: what variables are hashed with, in hex."""

    protocol: int
    nonce: str


class Ask(Message, frozen=True):
    """request: its fields, and its tag. period_s: how often progress is told. traceback: a failure brings one."""

    request: dict[str, Any]
    surroundings: Surroundings
    period_s: float
    traceback: bool


class Cancel(Message, frozen=True):
    """End it, as a signal would."""


class Declined(Message, frozen=True):
    """It is not done here. why: in words."""

    why: str


class Begun(Message, frozen=True):
    """It is done here, and will end with RunEnded or RunFailed."""


class EventTold(Message, frozen=True):
    """An event. kind: its class in observe.kinds, with the module: several may share the name that `event` has."""

    kind: str
    event: dict[str, Any]


class Owes(Message, frozen=True):
    """See debts.Debts.owe. number: what it is called from here on."""

    number: int
    what: str
    within_s: float
    last: bool


class Begins(Message, frozen=True):
    """It is being taken back."""

    number: int


class Settles(Message, frozen=True):
    """It is not owed any more. stays: it could not be taken back."""

    number: int
    stays: bool


class RunEnded(Message, frozen=True):
    """exit_code: the command line's. result: where a command needs it at its end (Request.carried)."""

    exit_code: int
    result: Any = None


class ProblemSaid(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file."""

    what: str
    file: str
    key: str
    line: int | None
    hint: str


class ErrorSaid(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, as errors.py has it; problems: of a configuration. kind: "bug" where it is none of ours; what and where
    are its text and its class then."""

    kind: str
    exit_code: int
    what: str
    where: str = ""
    hint: str = ""
    retryable: bool = False
    action: str = ""
    denied: bool = False
    object: str = ""
    code: str = ""
    host: str = ""
    pid: int = 0
    until_s: float = 0.0
    problems: tuple[ProblemSaid, ...] = ()


class RunFailed(Message, frozen=True):
    """error: None where it was cancelled. traceback: "" unless it was asked for."""

    error: ErrorSaid | None
    traceback: str = ""


FromClient = Ask | Cancel
FromDaemon = Greeting | Declined | Begun | EventTold | Owes | Begins | Settles | RunEnded | RunFailed
