"""The stacked table and its tables by feature."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.schema import Schema
from exfm.models.sharded.layout import EMBEDDING, FIRST_ORDER, Layout


@given(rows=st.lists(st.integers(1, 5), min_size=1, max_size=4), dimension=st.integers(1, 9), tasks=st.integers(1, 5))
def test_split_and_stack_are_inverse_and_padding_is_zero(rows: list[int], dimension: int, tasks: int) -> None:
    layout = Layout(tuple(rows), dimension, tasks)
    weight = torch.arange(1.0, sum(rows) * (dimension + tasks) + 1).reshape(sum(rows), -1)
    tables = layout.split(weight)
    assert torch.equal(layout.stack(tables), weight)
    for (part, place), table in tables.items():
        assert table.shape == (rows[place], layout.width(part))
        assert not table[:, layout.columns(part) :].any()


def test_widths_are_multiples_of_four(schema: Schema) -> None:
    layout = Layout.of(schema, 6, 2)
    assert [layout.width(part) for part in (EMBEDDING, FIRST_ORDER)] == [8, 4]
    assert layout.shrinkage(FIRST_ORDER) == 0.5
    assert layout.starts.tolist()[:2] == [0, schema.ordered[0].rows]
    assert sum(layout.rows) == schema.rows
