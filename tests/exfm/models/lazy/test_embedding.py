"""A lazy embedding gives what its table holds, and a gradient per row."""

from pathlib import Path

import pytest
import torch

from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.table import LazyTable

FORM = TableForm(rows=50, dimension=4, tasks=2)


def test_a_forward_for_prediction_leaves_nothing_to_learn(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(table)
    with torch.no_grad():
        lazy(torch.tensor([[1, 2]]))
    lazy.eval()
    assert not lazy(torch.tensor([[1, 2]])).requires_grad
    assert lazy.take_gradient() is None
    table.close()


def test_two_forwards_make_one_gradient(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(table)
    torch.autograd.backward(lazy(torch.tensor([[1]])).sum() + lazy(torch.tensor([[1], [2]])).sum())
    taken = lazy.take_gradient()
    assert taken is not None
    assert taken[0].tolist() == [1, 2]
    assert taken[1].tolist() == [[2.0] * 6, [1.0] * 6]
    assert lazy.take_gradient() is None
    table.close()


def test_a_table_of_other_sizes_is_refused(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(table)
    assert lazy.sized(50, 4, 2) is lazy
    with pytest.raises(LazyTableError, match=r"but 51 rows of 4 \+ 2"):
        lazy.sized(51, 4, 2)
    table.close()
