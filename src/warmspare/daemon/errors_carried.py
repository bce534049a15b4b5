"""Errors on their way to another process, so that it says and ends with the same; owns no words."""

from __future__ import annotations

from typing import Any

from warmspare.config.problems import ConfigPlace, Problem, SettingsError
from warmspare.daemon.messages import ErrorSaid, ProblemSaid
from warmspare.errors import (
    ConfigError,
    IntegrityError,
    LeaseError,
    RecoverError,
    SourceError,
    StoreError,
    WarmspareError,
)

_BUG = "bug"
_BASES: dict[int, type[WarmspareError]] = {
    base.exit_code: base for base in (ConfigError, SourceError, StoreError, IntegrityError, LeaseError, RecoverError)
}
_MORE = ("action", "denied", "object", "code", "host", "pid", "until_s")


def said_of(error: BaseException) -> ErrorSaid:
    """What is said of it."""
    if not isinstance(error, WarmspareError):
        return ErrorSaid(kind=_BUG, exit_code=1, what=str(error), where=type(error).__name__)
    problems = error.problems if isinstance(error, SettingsError) else ()
    more: dict[str, Any] = {name: getattr(error, name) for name in _MORE if hasattr(error, name)}
    return ErrorSaid(
        kind=error.kind,
        exit_code=error.exit_code,
        what=error.what,
        where=error.where,
        hint=error.hint,
        retryable=error.retryable,
        problems=tuple(
            ProblemSaid(one.what, one.place.file, one.place.key, one.place.line, one.hint) for one in problems
        ),
        **more,
    )


def error_of(said: ErrorSaid) -> Exception:
    """The same here: of the class that its exit code stands for, which is all that tells one from another there."""
    if said.kind == _BUG:
        bug: Exception = type(said.where, (Exception,), {})(said.what)
        return bug
    error: WarmspareError
    if said.problems:
        error = SettingsError(
            [Problem(one.what, ConfigPlace(one.file, one.key, one.line), one.hint) for one in said.problems]
        )
        error.hint = said.hint
        error.args = (error.sentence,)
    else:
        base = _BASES.get(said.exit_code, WarmspareError)
        error = base(said.what, where=said.where, hint=said.hint, retryable=said.retryable)
    for name, value in (
        ("kind", said.kind),
        ("exit_code", said.exit_code),
        *((name, getattr(said, name)) for name in _MORE),
    ):
        if hasattr(error, name):
            setattr(error, name, value)
    return error
