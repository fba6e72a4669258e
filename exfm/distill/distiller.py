"""What a student learns from its teacher, and forgets when it is published: auxiliary head and adapter."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from exfm.distill.adapter import StudentAdapter
from exfm.distill.auxiliary import AuxiliaryHead
from exfm.distill.config import DistillOptions


class Distiller:
    """What a student has only while it learns."""

    def __init__(self, width: int, tasks: int, options: DistillOptions) -> None:
        scales: Mapping[str, Any] = {
            "label_scale": options.label_scale,
            "gradient_scale": options.gradient_scale,
            "hidden": options.hidden,
        }
        self.heads = AuxiliaryHead(width, tasks, **scales)
        self._adapter = StudentAdapter(tasks, rate=options.adapter_rate)
        self._weight, self._adapter_weight = options.weight, options.adapter_weight

    def loss(self, hidden: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        """Algorithm 1: the adapter learns first, then its fresh answer is a target."""
        self._adapter.learn(teacher, labels)
        adapted = self._adapter.target(teacher)
        return self.heads.loss(hidden, teacher, adapted, weight=self._weight, adapter_weight=self._adapter_weight)

    def carried(self) -> dict[str, Any]:
        """Heads and adapter, uncopied; `resume` takes it."""
        return {"heads": self.heads.state_dict(), "adapter": self._adapter.carried()}

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave."""
        self.heads.load_state_dict(carried["heads"])
        self._adapter.resume(carried["adapter"])
