"""Victims that are forked: they live like a process that was started, wherever their output goes."""

from __future__ import annotations

import os

import pytest

import warmspare
from rigs.host.forked import Forked


@pytest.mark.program
def test_what_one_says_arrives_in_a_pipe() -> None:
    reading, writing = os.pipe()
    child = Forked("-m", "warmspare", "--version", stdout=writing)
    os.close(writing)
    with open(reading) as stdout:
        said = stdout.read()
    assert child.wait(60) == 0, child.so_far(2)
    assert said == f"warmspare {warmspare.__version__}\n"


@pytest.mark.program
def test_what_one_says_is_kept() -> None:
    child = Forked("-c", "import sys; print('out', end=''); print('bad \\udcff', end='', file=sys.stderr)")
    assert child.communicate(60) == (b"out", b"bad \\udcff") and child.returncode == 0
