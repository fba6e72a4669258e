import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from exfm.distill.losses import label_loss, masked_mean, scale_gradient, scaled_label

NAN = math.nan


def test_label_loss_is_minus_equation_one() -> None:
    logit, target = torch.tensor([[0.3], [-1.2]]), torch.tensor([[1.0], [0.25]])
    p = torch.sigmoid(logit)
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(label_loss(logit, target), expected)


def test_rows_without_a_target_neither_count_nor_pull() -> None:
    logits = torch.randn(4, 1, requires_grad=True)
    target = torch.tensor([[1.0], [NAN], [0.0], [NAN]])
    loss = label_loss(logits, target)
    torch.testing.assert_close(loss, label_loss(logits[[0, 2]], target[[0, 2]]))
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad[[1, 3]].abs().sum() == 0
    assert (logits.grad[[0, 2]] != 0).all()


def test_no_target_at_all_makes_the_term_vanish() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = label_loss(logits, torch.full((3, 2), NAN))
    torch.autograd.backward(loss)
    assert loss == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_tasks_are_masked_one_by_one_and_summed() -> None:
    logits, target = torch.randn(3, 2), torch.tensor([[1.0, NAN], [0.0, 1.0], [1.0, NAN]])
    expected = label_loss(logits[:, :1], target[:, :1]) + label_loss(logits[1:2, 1:], target[1:2, 1:])
    torch.testing.assert_close(label_loss(logits, target), expected)


def test_masked_mean() -> None:
    assert masked_mean(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True])) == 2.0


@given(st.floats(0, 1), st.floats(0, 100))
def test_scaled_label_never_exceeds_one(label: float, scale: float) -> None:
    made = float(scaled_label(torch.tensor(label), scale))
    assert made <= 1.0
    assert math.isclose(made, min(label * scale, 1.0), rel_tol=1e-5, abs_tol=1e-30)


def test_scaled_label_keeps_missing_ones_missing() -> None:
    assert torch.isnan(scaled_label(torch.tensor([NAN]), 5.0)).all()


def test_scale_gradient_is_the_identity_forward_and_scales_backward() -> None:
    values = torch.randn(5, 3, requires_grad=True)
    weight = torch.randn(5, 3)
    scaled = scale_gradient(values, 20.0)
    assert torch.equal(scaled, values)
    torch.autograd.backward((scaled * weight).sum())
    assert values.grad is not None
    torch.testing.assert_close(values.grad, 20.0 * weight)
