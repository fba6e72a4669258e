"""The student adapter: a fresh recalibration of the teacher's label (ExFM section 3.4, Algorithm 1)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from exfm.distill.losses import label_loss

CLIP = 1e-4
"""Teacher's probabilities are kept this far from 0 and 1 before their logit is taken."""


class _Curve(nn.Module):
    """logit + MLP(logit) per task; the MLP's last layer starts at zero, so an untrained curve is the identity."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.bend = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        last = self.bend[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, logit: Tensor) -> Tensor:
        bent: Tensor = logit + self.bend(logit[:, None])[:, 0]
        return bent


class StudentAdapter(nn.Module):
    """One calibration curve per task from the teacher's probability to the freshest labels.

    It owns its optimizer: no gradient passes between it and the student in either direction.
    """

    def __init__(self, tasks: int, *, hidden: int = 8, rate: float = 5e-3) -> None:
        super().__init__()
        self.curves = nn.ModuleList(_Curve(hidden) for _ in range(tasks))
        self._optimizer = torch.optim.Adam(self.parameters(), lr=rate)

    def forward(self, teacher: Tensor) -> Tensor:
        """Teacher's probabilities [B, T] -> logits [B, T]; NaN stays NaN."""
        logits = torch.logit(teacher.detach().clamp(CLIP, 1 - CLIP))
        return torch.stack([curve(logits[:, task]) for task, curve in enumerate(self.curves)], 1)

    def learn(self, teacher: Tensor, labels: Tensor) -> None:
        """One step on L_sta (Eq 6); rows without a label or without the teacher's are left out."""
        known = ~(torch.isnan(teacher) | torch.isnan(labels))
        safe = torch.where(known, teacher, torch.full_like(teacher, 0.5))
        loss = label_loss(self(safe), torch.where(known, labels, torch.full_like(labels, torch.nan)))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()

    def carried(self) -> dict[str, Any]:
        """Curves and optimizer; `resume` takes it."""
        return {"curves": self.state_dict(), "optimizer": self._optimizer.state_dict()}

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave."""
        self.load_state_dict(carried["curves"])
        self._optimizer.load_state_dict(carried["optimizer"])

    @torch.no_grad()
    def target(self, teacher: Tensor) -> Tensor:
        """t_SA of Eq 7: detached probabilities [B, T]; NaN where the teacher said nothing."""
        return torch.sigmoid(self(teacher))
