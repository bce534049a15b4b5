"""Single values of the file: from what TOML gives to what the program uses; knows no keys and no places.

Each function takes the value and raises ConfigError, without a place, where it is wrong. Values that might
hold a secret by mistake (hosts, URLs, paths) are not repeated in the message. A function's shape is what a JSON
Schema can say of what it takes (schema.py).
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

from warmspare.errors import ConfigError

T = TypeVar("T", bound=str)

TRANSPORTS = ("file", "san", "hotadd", "nbdssl", "nbd")  # VDDK's names
TEXT_CHARS = 1024
NAME_CHARS = 80  # vCenter's limit for names

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_RATES_BYTES = {"kbit": 125, "mbit": 125_000, "gbit": 125_000_000, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000}
_SIZES_BYTES = {
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_DURATION = re.compile(r"(?:[0-9]{1,9}[dhms])+")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([kmg]bit|kB|MB|GB)")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([MGT]i?B)")
_SLOWEST, _FASTEST = 8_000, 12_500_000_000  # 64kbit: leases and the like must get through; 100gbit
_SMALLEST, _LARGEST = 16 << 20, 1 << 50
_LONGEST_S = 366 * 86400
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_WORD = re.compile(r"[A-Za-z0-9_.+=@ -]{1,100}")


F = TypeVar("F", bound=Callable[[object], object])


def shaped(**shape: object) -> Callable[[F], F]:
    """A parser, with what a JSON Schema can say of what it takes."""

    def mark(parse: F) -> F:
        parse.__dict__["shape"] = shape
        return parse

    return mark


def shape_of(parse: Callable[[object], object]) -> dict[str, object]:
    """See `shaped`."""
    found: dict[str, object] = parse.__dict__["shape"]
    return found


def kind(value: object) -> str:
    """What a TOML value is, in words."""
    for types, words in (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "a text"),
        (list, "a list"),
        (dict, "a table"),
    ):
        if isinstance(value, types):
            return words
    return "a date or time"


@shaped(type="string", minLength=1, maxLength=TEXT_CHARS, pattern=r"^\S(.*\S)?$")
def text(value: object) -> str:
    """A text on one line with something in it."""
    if not isinstance(value, str):
        raise ConfigError(f"a text was expected, not {kind(value)}", hint="put it in quotes")
    if not value.strip():
        raise ConfigError("the text is empty", hint="fill it in, or remove the key")
    if len(value) > TEXT_CHARS:
        raise ConfigError(f"the text is longer than {TEXT_CHARS} characters")
    if not value.isprintable() or value != value.strip():
        raise ConfigError("the text holds control characters, or blanks at an end", hint="remove them")
    return value


@shaped(type="string", minLength=1, maxLength=NAME_CHARS, pattern=r"^\S(.*\S)?$")
def name(value: object) -> str:
    """A text that vCenter would take as a name."""
    out = text(value)
    if len(out) > NAME_CHARS:
        raise ConfigError(f"a name has at most {NAME_CHARS} characters", hint="choose a shorter one")
    return out


@shaped(type="boolean")
def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"true or false was expected, not {kind(value)}")
    return value


def whole(least: int, most: int) -> Callable[[object], int]:
    """A whole number, both bounds included."""

    @shaped(type="integer", minimum=least, maximum=most)
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"a whole number from {least} to {most} was expected", hint="write it without quotes")
        return value

    return parse


def choice(options: tuple[T, ...]) -> Callable[[object], T]:
    """One of some words."""

    @shaped(enum=list(options))
    def parse(value: object) -> T:
        for option in options:
            if value == option:
                return option
        given = f"{value[:40]!r} is not" if isinstance(value, str) else f"{kind(value)} was given instead of"
        raise ConfigError(f"{given} one of {', '.join(options)}")

    return parse


@shaped(type="string", pattern=f"^{_DURATION.pattern}$")
def duration(value: object) -> int:
    """Seconds of `15m`, `90s`, `1h30m` or `2d`; more than nothing, at most a year."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        given = repr(value[:40]) if isinstance(value, str) else kind(value)
        raise ConfigError(f"a duration was expected, not {given}", hint='write it as "15m", "90s", "1h30m" or "2d"')
    seconds = sum(int(count) * _UNITS_S[unit] for count, unit in re.findall(r"([0-9]+)([dhms])", value))
    if not 1 <= seconds <= _LONGEST_S:
        raise ConfigError("a duration must be from one second to a year")
    return seconds


@shaped(anyOf=[{"type": "string", "pattern": f"^{_DURATION.pattern}$"}, {"enum": ["0", 0]}])
def duration_or_none(value: object) -> int:
    """A duration, or 0 for `0`: not at all."""
    return 0 if value == "0" or (value == 0 and value is not False) else duration(value)


def moment(value: object, now_s: float, *, end: bool = False) -> float:
    """Unix seconds of a date (`2026-11-29`), a time (`2026-11-29T03:00`, UTC where it names no other), or of so long
    before now (`7d`). end: of a date, its last second and not its first."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return now_s - duration(value)
    try:
        found = datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        given = repr(value[:40]) if isinstance(value, str) else kind(value)
        hint = 'write "2026-11-29", "2026-11-29T03:00", or how long ago: "7d", "1h30m"'
        raise ConfigError(f"a date or a time ago was expected, not {given}", hint=hint) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    whole_day = isinstance(value, str) and len(value) <= len("2026-11-29")
    return found.timestamp() + (_UNITS_S["d"] - 1 if end and whole_day else 0)


@shaped(type="string", pattern=f"^{_RATE.pattern}$")
def rate(value: object) -> float:
    """Bytes a second of `20mbit` or `2.5MB`: kbit, mbit and gbit are bits, kB, MB and GB bytes, all of them decimal."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        given = repr(value[:40]) if isinstance(value, str) else kind(value)
        raise ConfigError(
            f"a rate was expected, not {given}",
            hint='write it as "20mbit" or "2.5MB": kbit, mbit or gbit, or kB, MB or GB a second',
        )
    bytes_s = float(match[1]) * _RATES_BYTES[match[2]]
    if not _SLOWEST <= bytes_s <= _FASTEST:
        raise ConfigError("a rate must be from 64kbit to 100gbit")
    return bytes_s


@shaped(type="string", pattern=f"^{_SIZE.pattern}$")
def size(value: object) -> int:
    """Bytes of `200GB` or `1.5TiB`: MB, GB and TB are decimal, MiB, GiB and TiB binary."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        given = repr(value[:40]) if isinstance(value, str) else kind(value)
        raise ConfigError(
            f"a size was expected, not {given}", hint='write it as "200GB" or "1.5TiB": MB, GB, TB, MiB, GiB or TiB'
        )
    count = int(float(match[1]) * _SIZES_BYTES[match[2]])
    if not _SMALLEST <= count <= _LARGEST:
        raise ConfigError("a size must be from 16MiB to 1024TiB")
    return count


@shaped(anyOf=[{"type": "integer", "minimum": 1, "maximum": 9}, {"const": "auto"}])
def level(value: object) -> int | None:
    """zstd 1 to 9, or None for `auto`."""
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 9:
        return value
    raise ConfigError('the level is neither a number from 1 to 9 nor "auto"')


@shaped(type="string", maxLength=TEXT_CHARS, pattern="^/")
def path(value: object) -> Path:
    """An absolute path: a scheduler starts us in a directory of its own choice."""
    out = text(value)
    if not out.startswith("/"):
        raise ConfigError("the path is not absolute", hint="write it in full, from / on")
    return Path(out)


@shaped(type="string", maxLength=TEXT_CHARS, pattern="^/")
def inventory_path(value: object) -> str:
    """A path in vCenter's inventory, without a slash at its end."""
    out = text(value).rstrip("/")
    if not out.startswith("/"):
        raise ConfigError("an inventory path begins with /", hint="write /DATACENTER/vm/FOLDER/NAME")
    return out


@shaped(type="string", pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
def uuid(value: object) -> str:
    """In lower case with hyphens, as vCenter shows it."""
    out = text(value).lower()
    if not _UUID.fullmatch(out):
        raise ConfigError("this is no UUID", hint="write 8-4-4-4-12 hex digits, as vCenter shows it")
    return out


@shaped(type="string", minLength=1, maxLength=254, pattern=r"^[^\s/@]+$")
def host(value: object) -> str:
    """A host name or an IP address, nothing around it."""
    out = text(value)
    try:
        return str(ipaddress.ip_address(out))
    except ValueError:
        pass
    if len(out) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in out.removesuffix(".").split(".")):
        raise ConfigError(
            "this is no host name or address", hint="give the name alone, and port and user by their own keys"
        )
    return out


@shaped(type="string", pattern="^[: ]*([0-9A-Fa-f][: ]*){64}$")
def thumbprint(value: object) -> str:
    """A SHA-256 thumbprint as 64 lower-case hex digits; colons and blanks between them are dropped."""
    digits = re.sub(r"[: ]", "", text(value)).lower()
    if re.fullmatch(r"[0-9a-f]{40}", digits):
        raise ConfigError("this is a SHA-1 thumbprint", hint="give the SHA-256 one of the same certificate")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ConfigError("a SHA-256 thumbprint has 64 hex digits", hint="write them with or without colons")
    return digits


@shaped(
    anyOf=[
        {"type": "string", "pattern": f"^({'|'.join(TRANSPORTS)})(:({'|'.join(TRANSPORTS)}))*$"},
        {"type": "array", "items": {"enum": list(TRANSPORTS)}, "minItems": 1, "uniqueItems": True},
    ]
)
def transport(value: object) -> tuple[str, ...]:
    """VDDK transport modes in order of preference, of `nbdssl:nbd` or a list."""
    parts = value.split(":") if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise ConfigError("transport modes were expected", hint='write "nbdssl:nbd" or ["nbdssl", "nbd"]')
    modes = cast("list[str]", parts)
    wrong = [mode for mode in modes if mode not in TRANSPORTS]
    if wrong:
        raise ConfigError(f"{wrong[0][:40]!r} is no transport mode", hint=f"there are {', '.join(TRANSPORTS)}")
    if len(set(modes)) != len(modes):
        raise ConfigError("a transport mode stands there twice", hint="name each once, the best first")
    return tuple(modes)


@shaped(type="string", maxLength=TEXT_CHARS, pattern="^(s3://[^@]|file:///|/)")
def repository_uri(value: object) -> str:
    """`s3://BUCKET/PREFIX`, `file:///PATH` or an absolute path; the store checks the rest when it is opened."""
    out = text(value)
    if not out.startswith(("s3://", "file:///", "/")):
        raise ConfigError("this is no URI of a repository", hint="give s3://BUCKET/PREFIX, file:///PATH or a full path")
    if out.startswith("s3://") and "@" in out:
        raise ConfigError("the URI holds credentials", hint="give them by the AWS environment or a profile")
    return out


@shaped(type="string", pattern=f"^{_WORD.pattern}$")
def word(value: object) -> str:
    """The name of a region or a profile."""
    out = text(value)
    if not _WORD.fullmatch(out):
        raise ConfigError("this is no name of the kind AWS uses")
    return out


@shaped(type="string", pattern="^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+([/?#]|$)")
def endpoint_url(value: object) -> str:
    """The URL of an S3 server."""
    return check_endpoint(text(value))


def check_endpoint(url: str) -> str:
    """The URL itself. ConfigError, without repeating it, if it holds credentials or is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises on a malformed port)
    except ValueError:
        raise ConfigError("the endpoint URL is malformed", hint="write http://HOST:PORT or https://HOST") from None
    if "@" in parts.netloc:
        raise ConfigError("the endpoint URL holds credentials", hint="give them by the AWS environment, never in a URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("the endpoint URL is not one of http or https", hint="write http://HOST:PORT or https://HOST")
    return url
