"""JSON records that others may have written: decoded within bounds, or refused with the reason in a clause.

msgspec holds a value against its type; this is what a type can't say: that each key stands once, that nothing is nested
deeper or larger than a record of ours ever is, and that numbers are of this world.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec

from warmspare.outside.text import is_unicode, shown

MAX_DEPTH = 24
MAX_VALUES = 400_000  # the largest mark has 4096 runs for each of a VM's disks
MAX_DIGITS = 20
MAX_FRACTION = 400  # characters of a number that is not whole
_LIMIT = 1 << 63
_UNICODE = re.compile("[\ud800-\udfff]")  # what a text never has
_PATHS = re.compile("[\ud800-\udc7f\udd00-\udfff]")

Count = Annotated[int, msgspec.Meta(ge=0, le=_LIMIT - 1)]
"""Bytes, blocks, pages, a place in a file: never negative, never more than a file system can say."""
Block = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
"""The number of a block of a disk, or how many."""
Sequence = Annotated[int, msgspec.Meta(ge=1, le=9_999_999_999)]
"""Of a restore point: ten digits in its key."""
SequenceOrNone = Annotated[int, msgspec.Meta(ge=0, le=9_999_999_999)]
"""0: of none yet."""
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
Sha256OrNone = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z", max_length=64)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
"""16 random bytes: of a sync, a failover, a repository."""
Moment = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]{1,9})?Z\Z", max_length=32)
]
"""RFC 3339 in UTC."""
Line = Annotated[str, msgspec.Meta(max_length=4096)]
"""A name, a date, a URI, a sentence."""
REQUEST_WORD = r"^[!-~]([ -~]{0,198}[!-~])?\Z"
RequestWord = Annotated[str, msgspec.Meta(pattern=REQUEST_WORD, max_length=200)]
"""What a scheduler calls a run. ASCII: what looks alike is alike, whatever release of Unicode a reader has."""

T = TypeVar("T")


class UnfitError(ValueError):
    """The bytes are no record of that kind; the message is a clause without a full stop."""


def is_moment(text: str) -> bool:
    """Whether a Moment is of a day that the calendar has."""
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_bounded(data: bytes, most_bytes: int) -> bool:
    """Whether a record that is to be read again is no longer, and has no more values, than one may."""
    return len(data) <= most_bytes and _values(data) <= MAX_VALUES


def _values(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def encode(record: msgspec.Struct) -> bytes:
    """Indented JSON, for anybody. What no text can hold, as a part of a path that is not UTF-8, stands there as an
    escape, the way it is shown."""
    try:
        data = msgspec.json.encode(record)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_whole_texts(msgspec.to_builtins(record)))
    return msgspec.json.format(data, indent=1)


def encode_exact(record: msgspec.Struct) -> bytes:
    """The same for a program of ours on this host, which gets such a path as it is: JSON can say it, Unicode can't.
    `loose` takes it with paths=True."""
    try:
        return msgspec.json.format(msgspec.json.encode(record), indent=1)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(record), indent=1).encode()


def _whole_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value if is_unicode(value) else shown(value)
    if isinstance(value, dict):
        return {_whole_texts(key): _whole_texts(one) for key, one in value.items()}
    return [_whole_texts(one) for one in value] if isinstance(value, list | tuple) else value


def loose(data: bytes, most_values: int = MAX_VALUES, *, paths: bool = False) -> dict[str, Any]:
    """A JSON object, within bounds. paths: texts may hold what paths of this host do (os.fsdecode). UnfitError."""
    if _values(data) > most_values:
        raise UnfitError("it holds more values than a record ever does")
    try:
        value = json.loads(
            data, object_pairs_hook=_once, parse_constant=_no_number, parse_int=_whole, parse_float=_finite
        )
    except UnfitError:
        raise
    except UnicodeDecodeError:
        raise UnfitError("it is not UTF-8") from None
    except RecursionError:
        raise UnfitError("it is nested too deeply") from None
    except ValueError:
        raise UnfitError("it is not JSON, or was cut off") from None
    if not isinstance(value, dict):
        raise UnfitError("it is not an object")
    # Of many records nearly all are plain: what their bytes rule out need not be looked for in each value.
    plain = data.isascii() and b"\\" not in data
    if not plain or data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _demand_bounds(value, _PATHS if paths else _UNICODE)
    return value


def typed(value: Any, kind: type[T]) -> T:
    """A decoded object as a record. UnfitError."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise UnfitError(str(error)) from None


def decode(data: bytes, kind: type[T], most_values: int = MAX_VALUES, *, paths: bool = False) -> T:
    """Both in one. UnfitError."""
    return typed(loose(data, most_values, paths=paths), kind)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnfitError(f"its key {twice[:60]!r} stands twice")
    return out


def _no_number(text: str) -> Any:
    raise UnfitError(f"{text} is no number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS or not -_LIMIT <= (number := int(text)) < 2 * _LIMIT:
        raise UnfitError(f"the number {text[:12]}… is beyond all bounds")
    return number


def _finite(text: str) -> float:
    if len(text) > MAX_FRACTION or not math.isfinite(number := float(text)):
        raise UnfitError(f"the number {text[:12]} is beyond all bounds")
    return number


def _demand_bounds(value: Any, halves: re.Pattern[str]) -> None:
    """Not nested too deeply; none of these halves of a character in any text."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                for key in one:
                    _demand_text(key, halves)
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str):
                _demand_text(one, halves)
        if not below:
            return
        level = below
    raise UnfitError(f"it is nested deeper than {MAX_DEPTH} levels")


def _demand_text(text: str, halves: re.Pattern[str]) -> None:
    if not text.isascii() and halves.search(text):
        raise UnfitError("a text in it is not valid Unicode (a lone surrogate)")
