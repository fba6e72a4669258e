"""The stacked table and its tables by feature."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.schema import Schema
from exfm.models.sharded.layout import EMBEDDING, FIRST_ORDER, PARTS, Layout


@given(rows=st.lists(st.integers(1, 5), min_size=1, max_size=4), dimension=st.integers(1, 9), tasks=st.integers(1, 5))
def test_stacked_are_the_pieces_without_their_padding(rows: list[int], dimension: int, tasks: int) -> None:
    layout = Layout(tuple(rows), dimension, tasks)
    weight = torch.arange(1.0, sum(rows) * (dimension + tasks) + 1).reshape(sum(rows), -1)
    tables = {}
    for part in PARTS:
        for place, count in enumerate(rows):
            halves = slice(0, count // 2), slice(count // 2, count)
            table = torch.cat([layout.piece(weight, part, place, half) for half in halves])
            assert table.shape == (count, layout.columns(part))
            tables[part, place] = torch.nn.functional.pad(table, (0, layout.width(part) - table.shape[1]), value=9.0)
    assert torch.equal(layout.stack(tables), weight)


def test_widths_are_multiples_of_four(schema: Schema) -> None:
    layout = Layout.of(schema, 6, 2)
    assert [layout.width(part) for part in (EMBEDDING, FIRST_ORDER)] == [8, 4]
    assert layout.shrinkage(FIRST_ORDER) == 0.5
    assert layout.starts.tolist()[:2] == [0, schema.ordered[0].rows]
    assert sum(layout.rows) == schema.rows
