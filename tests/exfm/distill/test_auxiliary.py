import math

import pytest
import torch
from torch import Tensor, nn

from exfm.distill.auxiliary import AuxiliaryHead

TEACHER = torch.tensor([[0.1], [0.6], [math.nan], [0.9]])
ADAPTED = torch.tensor([[0.2], [0.5], [math.nan], [0.8]])


def gradients(beta: float) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(1)
    head, hidden = AuxiliaryHead(6, 1, gradient_scale=beta), torch.randn(4, 6, requires_grad=True)
    torch.autograd.backward(head.loss(hidden, TEACHER, ADAPTED, weight=2.0, adapter_weight=3.0))
    assert hidden.grad is not None
    return hidden.grad, [parameter.grad for parameter in head.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("beta", [0.0, 5.0, 20.0])
def test_gradient_scale_reaches_the_backbone_and_not_the_heads(beta: float) -> None:
    backbone, heads = gradients(1.0)
    scaled_backbone, same_heads = gradients(beta)
    torch.testing.assert_close(scaled_backbone, beta * backbone)
    for one, other in zip(heads, same_heads, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_that_the_teacher_did_not_see_pull_nothing() -> None:
    backbone, _ = gradients(1.0)
    assert backbone[2].abs().sum() == 0
    assert (backbone[[0, 1, 3]].abs().sum(1) > 0).all()


def test_the_serving_head_gets_no_gradient_from_distillation() -> None:
    body, serving, head = nn.Linear(3, 6), nn.Linear(6, 1), AuxiliaryHead(6, 1)
    hidden = body(torch.randn(4, 3))
    serving(hidden)
    torch.autograd.backward(head.loss(hidden, TEACHER, ADAPTED, weight=1.0, adapter_weight=1.0))
    assert all(parameter.grad is None for parameter in serving.parameters())
    assert all(parameter.grad is not None for parameter in body.parameters())


def test_labels_are_scaled_and_clipped_for_the_teachers_head_only() -> None:
    hidden = torch.randn(4, 6)
    torch.manual_seed(1)
    scaled = AuxiliaryHead(6, 1, label_scale=5.0)
    torch.manual_seed(1)
    plain = AuxiliaryHead(6, 1)
    clipped = torch.tensor([[0.5], [1.0], [math.nan], [1.0]])
    weights = {"weight": 1.0, "adapter_weight": 1.0}
    torch.testing.assert_close(
        scaled.loss(hidden, TEACHER, ADAPTED, **weights), plain.loss(hidden, clipped, ADAPTED, **weights)
    )
