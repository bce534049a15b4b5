"""Two senders on a store whose conditional writes do not hold: refused, or nothing is lost without a word."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.races import Race, counted

# What is ignored: the shares of conditional creates and of conditional replacements.
SERVERS = {
    "ignores both": (1.0, 1.0),
    "drops half": (0.5, 0.5),
    "keeps creates alone": (0.0, 1.0),
    "keeps replacements alone": (1.0, 0.0),
}
SHORT, LONG = 3, 200


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a race is hundreds of fsyncs."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="warmspare-races-", dir=memory))
    yield made
    shutil.rmtree(made)


def races(server: str, count: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in four has such a server from the start; in the others it becomes one when both have tried it."""
    creates, replaces = SERVERS[server]
    start: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for seed in range(count):
        place = home / str(seed)
        place.mkdir()
        counts = counted(Race(place, seed, creates, replaces, later=seed % 4 != 0), monkeypatch)
        if seed % 4:
            later += counts
        else:
            start += counts
        shutil.rmtree(place)
    print(f"\n{server}: from the start {dict(sorted(start.items()))}; later {dict(sorted(later.items()))}")
    if creates == 1.0:
        assert not start["published"] and start["refused by init"], "not one point may be published there"
    if creates == 0.0:
        assert set(+(start + later)) <= {"published", "lease or race lost"}, "what is safe is used"
    else:
        assert count < LONG or later["lost and said"], "none of them met: the races are none"


@pytest.mark.parametrize("server", SERVERS)
def test_two_senders(server: str, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    races(server, SHORT, quick, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("server", SERVERS)
def test_200_races(server: str, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    races(server, LONG, quick, monkeypatch)
