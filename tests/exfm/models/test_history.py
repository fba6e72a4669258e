"""The history encoder."""

import pytest
import torch

from exfm.features.history import HistoryInputs, row_of
from exfm.features.schema import HistorySpec
from exfm.models.backbone import ModelError
from exfm.models.history import POOLINGS, HistoryEncoder, HistoryTokens, Pooling


def batch(rows: int = 3, length: int = 5, dimension: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values = torch.rand(rows, length, dimension) * 2 - 1
    known = torch.ones(rows, length, dtype=torch.bool)
    return values, known, torch.rand(rows, length) * 1e5


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_history_gives_zero_and_finite_gradients(pooling: Pooling) -> None:
    encoder = HistoryEncoder(4, 8, pooling)
    values, known, age_s = batch()
    known[1] = False
    made = encoder(torch.where(known.unsqueeze(2), values, 0.0), known, age_s)
    assert torch.equal(made[1], torch.zeros(8))
    assert (made[0] != 0).any()
    made.sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in encoder.parameters() if each.grad is not None)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_order_change_nothing(pooling: Pooling) -> None:
    encoder = HistoryEncoder(4, 8, pooling)
    values, known, age_s = batch()
    expected = encoder(values, known, age_s)
    order = torch.randperm(5)
    torch.testing.assert_close(encoder(values[:, order], known, age_s[:, order]), expected)
    more = torch.zeros(3, 2, 4)
    padded = encoder(
        torch.cat([more, values], 1),
        torch.cat([torch.zeros(3, 2, dtype=torch.bool), known], 1),
        torch.cat([torch.zeros(3, 2), age_s], 1),
    )
    torch.testing.assert_close(padded, expected)


def test_sum_tells_how_much_there_is_and_mean_does_not() -> None:
    values, known, age_s = batch(1)
    twice = torch.cat([values, values], 1), torch.cat([known, known], 1), torch.cat([age_s, age_s], 1)
    total, mean = HistoryEncoder(4, 8, "sum"), HistoryEncoder(4, 8, "mean")
    torch.testing.assert_close(total(*twice), 2 * total(values, known, age_s))
    torch.testing.assert_close(mean(*twice), mean(values, known, age_s))


def test_attention_weights_sum_to_one_and_survive_large_scores() -> None:
    encoder = HistoryEncoder(4, 8, "attention")
    values, known, age_s = batch()
    known[0, :3] = False
    with torch.no_grad():
        encoder.query.mul_(1e4)
    weights = encoder._weights(values, known, age_s)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 4))
    assert not weights[0, :3].any()


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ModelError, match="'max' is none of"):
        HistoryEncoder(4, 8, "max")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="3 heads"):
        HistoryEncoder(4, 8, "attention", heads=3)


def test_a_row_becomes_tokens_and_no_event_none() -> None:
    values, known, age_s = batch()
    known[2] = False
    inputs = HistoryInputs(*(each.numpy() for each in (values * known[..., None], known, age_s * known)))
    tokens = HistoryTokens(HistorySpec(5, 4), 8, tokens=3, pooling="sum")
    made = tokens(torch.from_numpy(row_of(inputs)))
    expected = tokens.encoder(values * known[..., None], known, age_s * known).reshape(3, 3, 8) / 5
    torch.testing.assert_close(made, expected)
    assert not made[2].any()
    with pytest.raises(ModelError, match="tokens must be >= 1"):
        HistoryTokens(HistorySpec(5, 4), 8, tokens=0)
