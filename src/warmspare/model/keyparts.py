"""Names as parts of keys, of file names and of tags; owns the escaping, and refuses names that nobody can read.

docs/format.md, "Keys". No two names become the same part.
"""

from __future__ import annotations

import hashlib
import re

from warmspare.errors import ConfigError

PART_CHARS = 150  # the longest result of encode_name
_LONG_HEAD_CHARS = 100
_LONG_MARK = "=sha256-"  # `=` before anything but two hex digits is never the result of the short form
_LONG_HEX = 40
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_PLAIN_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9_.-]{{0,{PART_CHARS - 1}}}")
_SHORT = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})(?:[A-Za-z0-9_.-]|=[0-9A-F]{2})*")


def encode_name(name: str) -> str:
    """A name as one part of a key; no two names give the same.

    `A-Za-z0-9-_` and every `.` but a leading one stay; each other byte of the UTF-8 becomes `=XX`. A result
    longer than 150 characters is cut after at most 100 (never inside an escape) and goes on with `=sha256-`
    and the first 40 hex digits of the SHA-256 of the UTF-8; that mark can't occur in the short form.
    ConfigError for an empty name, a lone surrogate or a control character.
    """
    if _PLAIN_NAME.fullmatch(name):  # as nearly all are, of which each point of a chain asks
        return name
    if not name:
        raise ConfigError("a name must not be empty", hint="give the VM or disk a name")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in name):
        raise ConfigError("a name must not hold control characters", where=ascii(name[:80]), hint="rename it")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "a name is not valid Unicode (a lone surrogate)",
            where=ascii(name[:80]),
            hint="give it as UTF-8, or rename it",
        ) from None
    units = [chr(b) if b in _PLAIN and (b != 0x2E or i) else f"={b:02X}" for i, b in enumerate(raw)]
    encoded = "".join(units)
    if len(encoded) <= PART_CHARS:
        return encoded
    head = encoded[:_LONG_HEAD_CHARS]
    cut = head.rfind("=", _LONG_HEAD_CHARS - 2)
    head = head if cut < 0 else head[:cut]
    return head + _LONG_MARK + hashlib.sha256(raw).hexdigest()[:_LONG_HEX]


def decode_name(encoded: str) -> str | None:
    """The name that `encode_name` gave this for; None if it is the cut form or no result of it at all."""
    if len(encoded) > PART_CHARS or not _SHORT.fullmatch(encoded):
        return None
    raw = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), encoded.encode())
    try:
        name = raw.decode()
        return name if encode_name(name) == encoded else None
    except (UnicodeDecodeError, ConfigError):
        return None
