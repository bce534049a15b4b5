"""Repositories that somebody else wrote into: what reads one ends as documented, and acts on no terminal."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import Rig, made
from rigs.damage import hostile

REPOSITORIES = 2000
SHORT = 26


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A VM with three points, one of them by another state."""
    rig = Rig(tmp_path_factory.mktemp("base"))
    disk = bytearray(random.Random(7).randbytes(1 << 20))
    for number in range(3):
        disk[number * 70_000 : number * 70_000 + 9000] = random.Random(number).randbytes(9000)
        rig.disk.write_bytes(disk)
        rig.sync()
    return rig


@pytest.fixture(scope="module")
def runner() -> Iterator[hostile.Runner]:
    with hostile.Runner() as made:
        yield made


def begin(work: Path) -> None:
    """A directory for the commands, with the repository that one of them copies to."""
    work.mkdir()
    made(work / "copy")


def campaign(base: Rig, runner: hostile.Runner, home: Path, seeds: range, *, every: int) -> None:
    """every: one in so many of the commands is run on a repository, by turns."""
    wrong, slowest, largest, runs = [], 0.0, 0.0, 0
    for seed in seeds:
        with hostile.mutated(Path(base.repo), home, seed) as (repository, done):
            work = home / "work"
            begin(work)
            for number, command in enumerate(hostile.commands(repository, work, base.disk)):
                if (number + seed) % every:
                    continue
                ended = runner.run(*command, home=work)
                runs, slowest, largest = runs + 1, max(slowest, ended.seconds), max(largest, ended.rss_mib)
                if what := ended.wrong():
                    wrong.append(f"{done}: {command[0]}: {what}: {ended.output[-600:]}")
            shutil.rmtree(work)
    print(f"{runs} commands on {len(seeds)} repositories: at most {slowest:.1f} s of CPU, {largest:.0f} MiB")
    assert not wrong, f"{len(wrong)} of {runs}:\n" + "\n".join(wrong[:20])


def test_each_does_its_work_where_nothing_is_wrong(base: Rig, runner: hostile.Runner, tmp_path: Path) -> None:
    """What is refused for its command line, or for the lack of something, would read no mutated repository either."""
    work = tmp_path / "work"
    begin(work)
    for command in hostile.commands(Path(base.repo), work, base.disk):
        ended = runner.run(*command, home=work)
        looks = command[0] == "recover"  # at a disk of noise, which can't start
        assert ended.code == (5 if looks else 0) and not ended.wrong(), (command, ended)


def test_readers_of_mutated_repositories(base: Rig, runner: hostile.Runner, tmp_path: Path) -> None:
    campaign(base, runner, tmp_path, range(SHORT), every=4)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_readers_of_thousands_of_mutated_repositories(base: Rig, runner: hostile.Runner, tmp_path: Path) -> None:
    campaign(base, runner, tmp_path, range(1000, 1000 + REPOSITORIES), every=1)
