"""A line of bash as far as it is typed: its words without their quotes, and replies in the quotes that are open.

Bash replaces only what stands behind the last of COMP_WORDBREAKS, or behind a quote that is open, and inserts replies
as they are. So a reply leaves out what stands before that, and is quoted in the manner of the word: nothing in a name
may end its word, or be expanded, when the line is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ENDS = ";|&(\n`"  # of a command, unquoted
_PLAIN = frozenset("_%+,./-")


@dataclass(frozen=True, slots=True)
class TypedLine:
    """words: of the command itself without its name, the last up to the cursor. kept: what of the last word bash leaves
    where it is. quote: the one that is open in it, or ""."""

    words: Sequence[str]
    kept: str
    quote: str

    def reply(self, word: str) -> str | None:
        """What bash is to insert for it; None where that can't be said in these quotes."""
        rest = word[len(self.kept) :]
        if self.quote == "'":
            return rest.replace("'", "'\\''")
        if self.quote == '"':  # a ! would be expanded, and can't be escaped here
            return None if "!" in rest else "".join("\\" + c if c in '\\"$`' else c for c in rest)
        return "".join(c if c.isalnum() or c in _PLAIN else "\\" + c for c in rest)


def typed(line: str, breaks: str) -> TypedLine:
    """line: up to the cursor. breaks: COMP_WORDBREAKS."""
    words: list[str] = []
    word, kept, quote, inside, escaped = "", "", "", False, False
    for char in line:
        if escaped:
            escaped = False
            # In double quotes a backslash is one unless it escapes something.
            word += char if quote != '"' or char in '\\"$`' else "\\" + char
        elif char == "\\" and quote != "'":
            escaped = inside = True
        elif quote and char == quote:
            quote = ""
            kept = word if char in breaks else kept
        elif quote:
            word += char
        elif char in "'\"":
            quote, inside, kept = char, True, word
        elif char in _ENDS:
            words, word, kept, inside = [], "", "", False
        elif char.isspace():
            if inside:
                words.append(word)
            word, kept, inside = "", "", False
        else:
            word, inside = word + char, True
            kept = word if char in breaks else kept
    words.append(word)
    return TypedLine(_behind_the_name(words), kept, quote)


def _behind_the_name(words: Sequence[str]) -> Sequence[str]:
    """Without assignments, and without programs that start it."""
    for index, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] == "warmspare":
            return words[index + 1 :]
    return words[1:] or [""]
