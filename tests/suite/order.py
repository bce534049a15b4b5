"""The order of a whole run: what takes long begins first, what is quick fills up the end, whoever is free by then."""

from __future__ import annotations

from collections import Counter

import pytest

from rigs.paths import TESTS
from suite.quick import QUICK

LONGEST = (
    "retain/test_simulated.py",
    "retain/test_failing_prune.py",
    "e2e/test_failover.py",
    "e2e/test_identity.py",
    "fault/test_kills.py",
    "e2e/test_drill_ec2.py",
    "e2e/test_failover_remedies.py",
    "e2e/test_copy.py",
    "conformance/test_store.py",
    "retain/test_killed_in_turn.py",
    "e2e/test_vddk_identity.py",
)


def sort(items: list[pytest.Item]) -> None:
    """Whole files, each in its own order: the longest; those of many tests before those of few; the small loop's."""
    names = {item.path: item.path.relative_to(TESTS).as_posix() for item in items}
    counts = Counter(item.path for item in items)
    ranks = {name: number for number, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool, int, str]:
        name = names[item.path]
        return ranks.get(name, len(ranks)), name.split("/")[0] in QUICK, -counts[item.path], name

    items.sort(key=place)
