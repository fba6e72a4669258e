"""Proof of a staged version: its files, run as the server will run them, give torch's probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.signature import tensors_of
from exfm.models.checkpoint import Checkpoint
from exporter.engines.accuracy import GOLDEN_NE_LOSS
from exporter.errors import ExportRefusedError
from exporter.golden import encode_request
from exporter.runner.scorer import Scorer, ne_loss
from exporter.trace import ServedStudent
from exporter.verify import torch_probability


def prove(folder: Path, checkpoint: Checkpoint, served: ServedStudent, bound: float) -> NDArray[np.float32]:
    """Score the golden request alone and in the middle of a batch, and hold both to torch.

    Args:
        folder: the staged version, the engine's files in it.
        checkpoint: has the golden request.
        served: the student in torch.
        bound: how far a probability may be off, absolute.

    Returns:
        torch's answer to the golden request, float32 [N, T].

    Raises:
        ExportRefusedError: a probability is farther off, or not a number, or all together are too far.
    """
    schema = checkpoint.schema
    exact = torch_probability(served, encode_request(schema, checkpoint.golden))
    golden = {tensor.name: checkpoint.golden[tensor.name] for tensor in tensors_of(schema)}
    scorer = Scorer(folder, schema)
    alone = scorer.score([golden])[0].probability
    amid = scorer.score([_part(golden, 1), golden, _part(golden, 3)])[1].probability
    for made, how in ((alone, "alone"), (amid, "in a batch")):
        off = np.abs(made - exact).max()
        if not off <= bound:
            raise ExportRefusedError(f"parity: the golden request {how} is off by {off:.3g}; the bound is {bound:g}")
        loss = ne_loss(made, exact)
        if not loss <= GOLDEN_NE_LOSS:
            text = f"NE loss of the golden request {how}: {loss:.3%}; the bound is {GOLDEN_NE_LOSS:.2%}"
            raise ExportRefusedError(f"parity: {text}")
    return exact


def _part(request: dict[str, NDArray[Any]], candidates: int) -> dict[str, NDArray[Any]]:
    return {name: value[:candidates] if name.startswith("candidate") else value for name, value in request.items()}
