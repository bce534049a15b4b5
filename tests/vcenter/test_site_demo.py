"""What `make demo` shows: both ways of it, as a newcomer sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import warmspare
from rigs.sites import simulator

TESTS = Path(__file__).resolve().parents[1]


def shown(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{Path(warmspare.__file__).parents[1]}:{TESTS}", "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_demo_of_a_site() -> None:
    if missing := simulator.available():
        pytest.skip(f"no simulated vCenter here, since {missing}")
    text = shown(str(TESTS / "sitedemo.py"))
    sums = re.findall(r"SHA-256 of the (?:VM's disk|replica) +([0-9a-f]{64})", text)
    assert len(sums) == 2 and sums[0] == sums[1]
    assert "identical, byte for byte; e2fsck finds its file system clean" in text
    times = re.search(r"were sent: (\d+) times less; snapshots left on the VM: 0", text)
    assert times and int(times[1]) >= 5
    assert re.search(r"block-wrong +1 ", text) and text.rstrip().endswith("identical again")


def test_the_demo_of_a_raw_disk() -> None:
    text = shown("-m", "warmspare", "demo")
    sums = re.findall(r"SHA-256 of the (?:disk|replica) +([0-9a-f]{64})", text)
    assert len(sums) == 2 and sums[0] == sums[1] and "identical, byte for byte" in text
