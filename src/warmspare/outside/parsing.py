"""Answers of servers before they are parsed: XML and JSON that are to become objects; refuses those that would swell.

A parser takes a hundred bytes for an element of four, and a document that declares entities or attributes lets a few
bytes stand for as many as it likes. No answer that is asked for here has so many parts, or declares anything.
"""

from __future__ import annotations

import re

ODD: tuple[type[Exception], ...] = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""What a client's library raises where an answer is not made as it should be: a part twice, or none, or a date that no
calendar has. Catch them around the library's call alone."""

_PARTS = (b"<", b"[", b"{", b'="', b"='")
_DECLARED = re.compile(rb"\s*<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"'>]*)")
# Those in which `<!` has no other bytes.
_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin-1", b"windows-1252"})
_DECLARATIONS = (b"<!ENTITY", b"<!ATTLIST")


class SwellingError(ValueError):
    """The answer is not to be parsed. The message is a clause."""


def demand_plain(body: bytes, most_parts: int) -> None:
    """SwellingError unless the answer can be parsed for little more than its length, with at most so many parts."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        raise SwellingError("it is in an encoding that no server of its kind uses")
    declared = _DECLARED.match(body[:1024].removeprefix(b"\xef\xbb\xbf"))
    if declared and declared[1].lower() not in _ENCODINGS:
        raise SwellingError("it is in an encoding that no server of its kind uses")
    if any(one in body for one in _DECLARATIONS):
        raise SwellingError("it declares entities or attributes of its own")
    if sum(body.count(one) for one in _PARTS) > most_parts:
        raise SwellingError(f"it has more than {most_parts} parts")
