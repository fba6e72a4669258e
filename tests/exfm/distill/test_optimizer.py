import numpy as np
import pytest
import torch
from torch import nn

from exfm.distill.optimizer import MovingAverage, RowAdagrad, first_order_rates
from exfm.features.schema import Schema
from exfm.models.embedding import EmbeddingTable


def loss_of(table: EmbeddingTable, rows: list[list[int]]) -> torch.Tensor:
    embeddings, first_order = table.split(table(torch.tensor(rows)))
    return (embeddings.square().sum((1, 2)) + 3 * first_order[:, 0]).mean()


def test_it_equals_dense_row_wise_adagrad() -> None:
    table = EmbeddingTable(5, 3, 1)
    optimizer = RowAdagrad(table, rate=0.05, first_order_rate=0.3)
    expected, accumulated = table.weight.detach().clone(), torch.zeros(5, 2)
    for rows in ([[0, 1], [1, 1]], [[1, 2], [0, 4]], [[1, 1], [1, 1]]):
        dense = expected.clone().requires_grad_()
        picked = dense[torch.tensor(rows)]
        torch.autograd.backward((picked[..., :3].square().sum((1, 2)) + 3 * picked[..., 3].sum(1)).sum())
        assert dense.grad is not None
        accumulated[:, 0] += dense.grad[:, :3].square().mean(1)
        accumulated[:, 1] += dense.grad[:, 3].square()
        expected[:, :3] -= 0.05 * dense.grad[:, :3] / (accumulated[:, :1].sqrt() + 1e-6)
        expected[:, 3] -= 0.3 * dense.grad[:, 3] / (accumulated[:, 1].sqrt() + 1e-6)
        torch.autograd.backward(loss_of(table, rows))
        optimizer.step(examples=2)
    torch.testing.assert_close(table.weight.detach(), expected)


def test_untouched_rows_stay_and_gradients_are_cleared() -> None:
    table = EmbeddingTable(6, 3, 1)
    before = table.weight.detach().clone()
    optimizer = RowAdagrad(table, 0.1, 0.1)
    torch.autograd.backward(loss_of(table, [[2, 3]]))
    optimizer.step(1)
    assert table.weight.grad is None
    assert (table.weight.detach() != before).any(1).tolist() == [False, False, True, True, False, False]
    optimizer.step(1)


def test_first_order_gradients_do_not_slow_embeddings() -> None:
    table = EmbeddingTable(1, 2, 1)
    optimizer = RowAdagrad(table, rate=0.05, first_order_rate=0.0)
    with torch.no_grad():
        table.weight.fill_(1.0)
    torch.autograd.backward(1e-3 * table.weight[:, :2].sum() + 1e3 * table.weight[:, 2].sum())
    assert table.weight.grad is not None
    table.weight.grad = table.weight.grad.to_sparse(1)
    optimizer.step(1)
    torch.testing.assert_close(table.weight.detach(), torch.tensor([[0.95, 0.95, 1.0]]), rtol=0, atol=1e-3)


def test_multipliers_go_to_their_features_rows(schema: Schema) -> None:
    rates = first_order_rates(schema, 0.01, {"age": 5.0, "ad_id": 3.0, "elsewhere": 9.0})
    assert len(rates) == schema.rows
    values, counts = np.unique(rates.numpy(), return_counts=True)
    assert values.tolist() == pytest.approx([0.01, 0.03, 0.05])
    assert counts[1:].tolist() == [128, 3]


def test_moving_average_ramps_and_swaps_back() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = MovingAverage([parameter], decay=0.5)
    parameter.data = torch.ones(1)
    average.update()
    with average.applied():
        assert parameter.item() == pytest.approx(1 - 2 / 11)
    assert parameter.item() == 1.0
    for _ in range(50):
        average.update()
    with average.applied():
        assert parameter.item() == pytest.approx(1.0)


def test_moving_average_swaps_back_after_an_error() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = MovingAverage([parameter], decay=0.5)
    parameter.data = torch.ones(1)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert parameter.item() == 1.0
