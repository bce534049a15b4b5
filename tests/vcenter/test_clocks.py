"""Whoever's clock jumps, no replica is wrong, and not much more is compared in full than was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcenter.clockworld import Schedule, Tally


async def campaign(home: Path, seeds: range) -> tuple[Tally, Schedule]:
    tally = Tally()
    for seed in seeds:
        schedule = Schedule(home / str(seed), seed, tally)
        await schedule.run()
    return tally, schedule


def judged(tally: Tally) -> None:
    print(tally)
    assert tally.needed <= tally.full <= 2 * tally.needed, tally


async def test_some_schedules(tmp_path: Path) -> None:
    tally, _ = await campaign(tmp_path, range(100, 105))
    judged(tally)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_two_hundred_schedules(tmp_path: Path) -> None:
    tally, _ = await campaign(tmp_path, range(200))
    judged(tally)
    assert tally.schedules == 200 and min(tally.losses.values()) >= 20 and len(tally.losses) == 7
