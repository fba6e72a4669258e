"""ExFM's loss terms (arXiv 2502.17494, Eq 1 to 7), each a mean over the rows that have a target."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of float32 `values` where bool `known`; 0 if none is known, so that the term vanishes."""
    kept = torch.where(known, values, torch.zeros_like(values))
    return kept.sum() / known.sum().clamp(min=1)


def label_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Minus Eq 1: the mean binary cross-entropy of logits [B, T] against targets in [0, 1], hard or soft.

    Targets of NaN (the row has no such label) neither count nor reach the logits. The mean is taken per column and
    the columns are summed, so that a task's weight does not depend on how many tasks stand beside it.
    """
    known = ~torch.isnan(target)
    each = functional.binary_cross_entropy_with_logits(logits, torch.nan_to_num(target), reduction="none")
    return torch.stack([masked_mean(each[:, i], known[:, i]) for i in range(target.shape[1])]).sum()


def scaled_label(teacher: Tensor, scale: float) -> Tensor:
    """Label scaling of Eq 4, min(scale * yF, 1): lifts rare outcomes' labels off zero; NaN stays NaN."""
    return (scale * teacher).clamp(max=1.0)


class _GradientScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def scale_gradient(values: Tensor, scale: float) -> Tensor:
    """GS of Eq 4: the identity forward; backward the gradient times `scale`."""
    scaled: Tensor = _GradientScale.apply(values, scale)  # type: ignore[no-untyped-call]
    return scaled
