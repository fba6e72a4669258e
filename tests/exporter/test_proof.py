from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.models.checkpoint import Checkpoint
from exporter.errors import ExportRefusedError
from exporter.proof import prove
from exporter.trace import ServedStudent
from exporter.verify import torch_probability


def test_scores_that_are_together_too_far_off_are_refused_within_any_absolute_bound(
    stage: Callable[[str], tuple[Path, Any]],
    checkpoint: Checkpoint,
    served: ServedStudent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = stage("onnx")
    assert prove(folder, checkpoint, served, 1e-5).shape == (64, 2)

    def swapped(*args: Any) -> np.ndarray:
        return np.ascontiguousarray(torch_probability(*args)[:, ::-1])

    monkeypatch.setattr("exporter.proof.torch_probability", swapped)
    with pytest.raises(ExportRefusedError, match=r"NE loss of the golden request alone: .*; the bound is 0\.20%"):
        prove(folder, checkpoint, served, 1.0)
