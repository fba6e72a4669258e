"""A lazy embedding learns what the stacked table learns, step by step."""

from pathlib import Path

import numpy as np
import torch

from exfm.distill.optimizer import RowAdagrad
from exfm.models.embedding import EmbeddingTable
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.table import LazyTable, TableForm

FORM = TableForm(rows=50, dimension=4, tasks=2)


def loss_of(table: EmbeddingTable | LazyEmbedding, rows: torch.Tensor) -> torch.Tensor:
    embeddings, first_order = table.split(table(rows))
    return ((embeddings.prod(1).sum(1, keepdim=True) * 50 + first_order - 1) ** 2).mean()


def test_it_learns_as_the_stacked_table_does(tmp_path: Path) -> None:
    lazy_table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(lazy_table, 0.2, 0.1)
    stacked = EmbeddingTable(50, 4, 2)
    with torch.no_grad():
        stacked.weight.copy_(torch.from_numpy(lazy_table.read(np.arange(50))[0]))
    optimizer = RowAdagrad(stacked, 0.2, 0.1)
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        rows = torch.randint(0, 50, (16, 3), generator=draw)
        ours, theirs = loss_of(lazy, rows), loss_of(stacked, rows)
        torch.testing.assert_close(ours, theirs)
        for loss, step in ((ours, lazy.step), (theirs, optimizer.step)):
            torch.autograd.backward(loss)
            step(16)
    values = torch.from_numpy(lazy_table.read(np.arange(50))[0])
    torch.testing.assert_close(values, stacked.weight.detach(), atol=1e-6, rtol=1e-5)
    lazy_table.close()


def test_a_forward_for_prediction_leaves_nothing_to_learn(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(table, 0.2, 0.1)
    with torch.no_grad():
        lazy(torch.tensor([[1, 2]]))
    lazy.eval()
    assert not lazy(torch.tensor([[1, 2]])).requires_grad
    lazy.step(1)
    assert table.real_bytes == 0
    table.close()


def test_two_forwards_make_one_step(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, FORM)
    lazy = LazyEmbedding(table, 1.0, 1.0)
    torch.autograd.backward(lazy(torch.tensor([[1]])).sum() + lazy(torch.tensor([[1], [2]])).sum())
    lazy.step(1)
    states = table.read(np.array([1, 2, 3]))[1]
    assert states[:, 0].tolist() == [4.0, 1.0, 0.0]
    table.close()
