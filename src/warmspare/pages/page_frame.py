"""What every page for a browser has: head, styles, policy, and words made safe; owns nothing of what a page says.

A page asks for nothing from outside: styles and drawings are in it, there is no script, and its content security
policy forbids everything else.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from html import escape as escape_html

from warmspare.outside.text import shown


def mark_of(kind: str) -> bytes:
    """What a page of a kind begins with, and by which it is known for one of ours: only such a one is replaced."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="warmspare {kind}">""".encode()


def escape(value: str) -> str:
    """Anybody's text on the page: neither markup nor what acts or hides."""
    return escape_html(shown(str(value)))


def document(mark: bytes, title: str, body: Iterable[str]) -> str:
    """A whole page. mark: of `mark_of`. body: pieces of HTML, in which all that is somebody's text is escaped."""
    style = importlib.resources.files("warmspare.pages").joinpath("page.css").read_text(encoding="utf-8")
    inner = "\n".join(body)
    return f"""{mark.decode()}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{inner}
</body>
</html>
"""


def tiles(pairs: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Figures that are seen first: (value, name) each."""
    yield '<div class="tiles">'
    for value, name in pairs:
        yield f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
    yield "</div>"


def facts(pairs: Iterable[tuple[str, str]], *, apart: bool = False) -> Iterable[str]:
    """Terms and what they are: (term, value) each. apart: with some room above."""
    yield '<dl style="margin-top:12px">' if apart else "<dl>"
    for term, value in pairs:
        yield f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1000 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" or count == int(count) else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
