"""Values on their way to another process: as what JSON has, and back; refuses secrets, and what no type says.

Python's own JSON and not msgspec's: names of files that are not UTF-8 and numbers that are not finite get through.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import msgspec

from warmspare.observe.event import Event

_KINDS = "warmspare.observe.kinds."


class NotCarriedError(Exception):
    """It can't be said to another process, or what was said is not that; the message is a clause."""


def encoded(value: msgspec.Struct) -> bytes:
    """As JSON. NotCarriedError."""
    return json.dumps(plain(value), separators=(",", ":")).encode()


def decoded(data: bytes, kind: Any) -> Any:
    """A value of that type. NotCarriedError."""
    try:
        return taken(json.loads(data), kind)
    except (ValueError, RecursionError) as error:
        raise NotCarriedError(f"not JSON: {type(error).__name__}") from None


def plain(value: Any) -> Any:
    """As what JSON has. NotCarriedError."""
    try:
        return msgspec.to_builtins(value, enc_hook=_text_of)
    except (TypeError, msgspec.MsgspecError, RecursionError) as error:
        raise NotCarriedError(str(error)) from None


def taken(value: Any, kind: Any) -> Any:
    """A value of that type, of what JSON has. NotCarriedError."""
    try:
        return msgspec.convert(value, kind, dec_hook=_path_of)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NotCarriedError(str(error)) from None


def _text_of(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is for programs in this process alone")


def _path_of(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"a {kind.__name__} is not taken from another process")


def kind_of(event: Event) -> str:
    """What `event_of` knows its class by."""
    return f"{type(event).__module__.removeprefix(_KINDS)}.{type(event).__name__}"


def event_of(kind: str, fields: dict[str, Any]) -> Event:
    """An event that was told over there. NotCarriedError."""
    module, _, name = kind.partition(".")
    try:
        found = getattr(importlib.import_module(_KINDS + module), name, None) if module.isidentifier() else None
    except ModuleNotFoundError:
        found = None
    if not (isinstance(found, type) and issubclass(found, Event) and found is not Event):
        raise NotCarriedError("an event that is not known here")
    event: Event = taken(fields, found)
    return event
