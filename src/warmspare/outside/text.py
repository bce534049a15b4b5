"""Text from outside as it may be shown; owns which characters act or hide, and refuses to judge what a text says.

Names, messages and paths come from guests, servers, repositories and file systems. What a terminal obeys (C0, C1), what
turns the order of a line around (bidirectional controls), what can't be seen and what is no character at all is shown
as an escape. A program reads JSON, so there the same characters are escaped as JSON has it, and nothing is lost.
"""

from __future__ import annotations

import functools
import re

# Scripts and emoji in which a joiner between two characters is a part of the spelling.
_JOINED = "\u0590-\u1fff\u2190-\u2bff\ua800-\uabff\ufe0f\U0001f000-\U0001faff"
_HARMFUL = (
    "\x00-\x1f\x7f-\x9f"  # obeyed by terminals
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the order of what is shown
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"  # not seen
    "\u2028\u2029"  # end a line for some
    "\ud800-\udfff\ufff0-\ufffb\ufffe\uffff"  # halves of characters, and none
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff"  # not seen either
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@functools.cache
def _pattern() -> re.Pattern[str]:
    """Made when the first odd text is met: most runs meet none."""
    return re.compile(f"[{_HARMFUL}]|(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])")


def shown(text: str, *, lines: bool = False) -> str:
    """The text, with every character that acts or hides as an escape (`\\x1b`, `\\u202e`). lines: it may have several,
    and their ends stay."""
    if text.isprintable() and (text.isascii() or not _pattern().search(text)):
        return text
    return _pattern().sub(lambda found: "\n" if lines and found[0] == "\n" else _escape(found[0]), text)


def cut(text: str, most: int) -> str:
    """The text, or as many characters of it as there may be, the last of which says that it goes on."""
    return text if len(text) <= most else text[: most - 1] + "…"


def is_unicode(text: str) -> bool:
    """Whether it has no half of a character, as a path that is not UTF-8 has."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


def json_safe(text: str) -> str:
    """JSON that means the same, with those characters as JSON's own escapes."""
    if text.isprintable() and (text.isascii() or not _pattern().search(text)):
        return text
    return _pattern().sub(lambda found: _json_escape(ord(found[0])), text)


def _escape(character: str) -> str:
    number = ord(character)
    wide = f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 0x100 else wide)


def _json_escape(number: int) -> str:
    if number < 0x10000:
        return f"\\u{number:04x}"
    above = number - 0x10000
    return f"\\u{0xD800 + (above >> 10):04x}\\u{0xDC00 + (above & 0x3FF):04x}"
