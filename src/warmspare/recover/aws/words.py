"""AWS's own sentences as they may be shown: whole where they can be, on one line; owns what of them is left out, and
refuses to judge what they say.

Who is to mend a thing needs AWS's words, and searches for them. But a refusal may quote its request: user data, a
session token (the canonical string of a signature), a statement that only AWS reads (the encoded message of a refused
right). Of each it is said that it was left out. AWS documents: "Troubleshooting AWS signature errors",
"DecodeAuthorizationMessage".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Final

from warmspare.outside.text import cut, shown

MOST_CHARS: Final = 400
MOST_READ: Final = 4096  # of what a server may have sent; the rest is cut before it is looked at
_ENCODED = re.compile(r"(Encoded authorization failure message:)\s*\S+", re.IGNORECASE)
_CANONICAL = re.compile(r"The (?:Canonical String|String-to-Sign)\b.*", re.IGNORECASE | re.DOTALL)
_KEY_ID = re.compile(r"\b(A[KS]IA)[A-Z0-9]{12,}")
_USER_DATA = re.compile(r"\([^)]*\)(?= for parameter user_?data)", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_NAME = re.compile(r"(?:arn:|[\"'(\[]arn:)\S*")
_LEAST_HIDDEN = 6  # characters: shorter ones are words of everybody's


def sentence(message: str, hidden: Iterable[str] = ()) -> str:
    """What AWS said, on one line, of bounded length, and harmless. hidden: what the request held that nobody may see,
    as it was given and as it was sent."""
    text = message[:MOST_READ]
    for secret in sorted({form for each in hidden for form in _forms(each)}, key=len, reverse=True):
        text = text.replace(secret, _gone(secret))
    text = _ENCODED.sub(lambda found: f"{found[1]} {_gone(found[0][len(found[1]) :].strip())}", text)
    text = _CANONICAL.sub("(the rest is of the signature, and left out)", text)
    text = _USER_DATA.sub("(left out)", text)
    text = _KEY_ID.sub(r"\1…", text)
    return cut(shown(" ".join(_without_tokens(text).split())), MOST_CHARS)


def quoted(code: str, said: str, reason: str = "") -> str:
    """What is put behind words of ours: AWS's code, with its reason if it has one, and sentence; "" without any."""
    head = " ".join(plain(each) for each in (code, reason) if each)
    inner = ": ".join(each for each in (head, said.removeprefix(f"{head}: ")) if each)  # AWS's may begin with the code
    return f" [{inner}]" if inner else ""


def plain(text: str) -> str:
    """A word of AWS's fit to be shown: a server may put anything there."""
    return "".join(one for one in text[:60] if one.isalnum() or one in "._-") or "in no state"


def _forms(secret: str) -> set[str]:
    """In which a refusal may quote it: whole, as it is sent, and a line of it."""
    encoded = base64.b64encode(secret.encode(errors="replace")).decode()
    lines = (line.strip() for line in secret.splitlines())
    return {form for form in (secret, encoded, *lines) if len(form) >= _LEAST_HIDDEN}


def _without_tokens(text: str) -> str:
    """Without long runs of characters that no name has: keys, tokens, what is encoded. Names of AWS's stay."""
    kept = [found.span() for found in _NAME.finditer(text)]

    def replaced(found: re.Match[str]) -> str:
        inside = any(start <= found.start() < end for start, end in kept)
        return found[0] if inside or not _is_token(found[0]) else _gone(found[0])

    return _RUN.sub(replaced, text)


def _is_token(run: str) -> bool:
    kinds = (str.isupper, str.islower, lambda one: one.isdigit() or one in "+/=")
    mixed = all(any(kind(one) for one in run) for kind in kinds)
    return mixed or len(run) >= 100 or re.fullmatch(r"[0-9a-f]{64,}", run) is not None


def _gone(secret: str) -> str:
    return f"({len(secret)} characters left out)"
