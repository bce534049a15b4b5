"""A listing in pages that a server gives; owns that it ends, and refuses to know what is listed.

A server may give the same page again and again, tokens that lead nowhere, or keys without end. Each page is remembered
by a hash, so a page that comes twice shows at once, however the server names it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

EMPTY_PAGES = 1000  # in a row; a server may skip what was deleted
MOST_ITEMS = 4_000_000


class EndlessError(ValueError):
    """The listing does not end; the message is a clause."""


class Paging:
    """Of one listing. most_items: it has no more."""

    def __init__(self, most_items: int = MOST_ITEMS) -> None:
        self._most, self._items, self._empty = most_items, 0, 0
        self._tokens: set[int] = set()
        self._pages: set[int] = set()

    def page(self, items: Iterable[Hashable], token: Hashable) -> None:
        """A page has come. token: what the next one is to be asked for with; None where this is the last. EndlessError
        where that would go on for ever."""
        names = tuple(items)
        self._items += len(names)
        self._empty = 0 if names else self._empty + 1
        if self._items > self._most:
            raise EndlessError(f"the listing does not end: it has more than {self._most} entries")
        if names:
            self._once(self._pages, hash(names), "it gives the same page again")
        if token is not None:
            self._once(self._tokens, hash(token), "it names the same next page again")
            if self._empty > EMPTY_PAGES:
                raise EndlessError(f"the listing does not end: {EMPTY_PAGES} pages in a row are empty")

    @staticmethod
    def _once(seen: set[int], value: int, what: str) -> None:
        if value in seen:
            raise EndlessError(f"the listing does not end: {what}")
        seen.add(value)
