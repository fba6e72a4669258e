"""The auxiliary head: where a student meets its teacher while it trains (ExFM section 3.3); never served."""

from torch import Tensor, nn

from exfm.distill.losses import label_loss, scale_gradient, scaled_label
from exfm.models.dense import mlp, set_base_rate


class AuxiliaryHead(nn.Module):
    """Two heads on the backbone's output [B, width], one for the teacher's label, one for the adapter's.

    Their outputs are no probabilities of anything once `label_scale` differs from 1; nothing may serve them.

    Args:
        width: of the backbone's output.
        tasks: how many outcomes.
        hidden: of each head.
        label_scale: alpha of Eq 4.
        gradient_scale: beta of Eq 4, applied to what both heads send back into the backbone.
    """

    def __init__(
        self, width: int, tasks: int, *, hidden: int = 32, label_scale: float = 1.0, gradient_scale: float = 1.0
    ) -> None:
        super().__init__()
        self._label_scale, self._gradient_scale = label_scale, gradient_scale
        self.on_teacher = mlp(width, hidden, tasks)
        self.on_adapter = mlp(width, hidden, tasks)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, T] of the head on the teacher's label and of the head on the adapter's."""
        scaled = scale_gradient(hidden, self._gradient_scale)
        return self.on_teacher(scaled), self.on_adapter(scaled)

    def loss(self, hidden: Tensor, teacher: Tensor, adapted: Tensor, *, weight: float, adapter_weight: float) -> Tensor:
        """weight * L_d (Eq 4, 5) + adapter_weight * L_sa (Eq 7).

        Args:
            hidden: float32 [B, width].
            teacher: the teacher's probabilities [B, T], NaN where it said nothing.
            adapted: the adapter's targets [B, T], NaN likewise.
        """
        on_teacher, on_adapter = self(hidden)
        distilled = label_loss(on_teacher, scaled_label(teacher, self._label_scale))
        return weight * distilled + adapter_weight * label_loss(on_adapter, adapted.detach())

    def start_at(self, rate: Tensor) -> None:
        """Let the untrained heads answer base rates, float32 [T]."""
        set_base_rate(self.on_teacher[-1], rate)
        set_base_rate(self.on_adapter[-1], rate)
