"""Files whose answers are kept for a run: the same as without, and asked once."""

from __future__ import annotations

import random

from rigs.guests.memoryfiles import MemoryFiles
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.guest.guest_files import UnreadFiles
from warmspare.recover.readiness.guest.kept import KeptFiles

FILES = {"/short": b"abc", "/empty": b"", "/long": bytes(range(256)) * 300, "/lost": Unknown("it can't be read")}


def test_whatever_is_asked_in_whatever_order_is_answered_as_without() -> None:
    rng, plain = random.Random(7), MemoryFiles(FILES)
    for _ in range(200):
        kept = KeptFiles(MemoryFiles(FILES))
        for _ in range(12):
            path, count = rng.choice([*FILES, "/none"]), rng.choice([1, 2, 3, 4, 100, 70_000, 80_000])
            if rng.random() < 0.5:
                assert kept.head(path, count) == plain.head(path, count), (path, count)
            else:
                assert kept.read(path, most_bytes=count) == plain.read(path, most_bytes=count), (path, count)


def test_what_is_known_is_not_asked_again() -> None:
    files = MemoryFiles(FILES)
    kept = KeptFiles(files)
    for _ in range(3):
        assert kept.head("/short", 100) == kept.read("/short") == b"abc"
        assert kept.head("/none", 1) is kept.read("/none") is ABSENT
        assert isinstance(kept.head("/lost", 1), Unknown)
    assert files.asked == ["/short", "/none", "/lost"]


def test_what_was_not_found_says_why_whatever_is_asked() -> None:
    unread = UnreadFiles("the root was not found")
    assert unread.read("/x") == unread.head("/x", 1) == unread.names("/") == Unknown("the root was not found")
