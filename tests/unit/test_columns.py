"""What can be said of any column."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare.model.columns import distinct


@given(st.lists(st.integers(0, 40), max_size=60), st.sampled_from([np.uint8, np.uint32, np.int64]))
def test_distinct_is_what_numpy_says(values: list[int], kind: type[np.generic]) -> None:
    column = np.array(values, kind)
    before = column.copy()
    found = distinct(column)
    assert found.dtype == column.dtype and np.array_equal(found, np.unique(column))
    assert np.array_equal(column, before)
    assert np.array_equal(distinct(column.reshape(1, -1)), found)


@pytest.mark.program
def test_it_reads_no_masked_arrays() -> None:
    code = "import sys, numpy; from warmspare.model.columns import distinct; distinct(numpy.array([3, 1, 3]))"
    subprocess.run([sys.executable, "-c", code + "; assert 'numpy.ma' not in sys.modules"], check=True)
