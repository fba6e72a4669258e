from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.runner.rows import RowTable, bucket_sizes, open_table


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gather_copies_whole_rows(dtype: str) -> None:
    table = np.arange(60, dtype=dtype).reshape(12, 5)
    into = np.empty((3, 2, 5), dtype)
    rows = np.array([[0, 11], [4, 4], [7, 1]])
    RowTable(table).gather(rows, into)
    assert np.array_equal(into, table[rows])


def test_gather_fills_part_of_a_buffer() -> None:
    table, buffer = np.ones((4, 3), np.float16), np.zeros((8, 2, 3), np.float16)
    RowTable(table).gather(np.zeros((5, 2), np.int64), buffer[:5])
    assert buffer[:5].all()
    assert not buffer[5:].any()


def test_a_table_on_disk_is_mapped(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float16)
    np.save(tmp_path / "rows.npy", table)
    into = np.empty((100, 1, 3), np.float16)
    open_table(tmp_path).gather(np.arange(100)[:, None], into)
    assert np.array_equal(into[:, 0], table)


@given(most=st.integers(1, 5000))
def test_sizes_waste_at_most_a_quarter(most: int) -> None:
    sizes = bucket_sizes(most)
    assert sizes[0] == 1
    assert sizes[-1] == most
    assert sizes == sorted(set(sizes))
    for below, size in pairwise(sizes):
        assert below < 4 or size <= 1.25 * below
