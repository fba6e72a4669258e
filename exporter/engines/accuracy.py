"""How far an engine's probabilities are from torch's, and what that costs in normalized entropy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.runner.engine import Engine
from exporter.verify import Batch

NE_LOSS_BOUND = 2e-4
"""The largest relative increase of normalized entropy that an engine may cost: 0.02 %."""
_CLIP = 1e-7


@dataclass(frozen=True)
class Accuracy:
    """Over all batches: `ne_loss`, a share; `max_difference` of a probability, absolute. NaN where it is not finite."""

    ne_loss: float
    max_difference: float


def measure_accuracy(engine: Engine, batches: Sequence[Batch], exact: Sequence[NDArray[np.float32]]) -> Accuracy:
    """Run the batches and compare with torch's probabilities, [M, T] each."""
    made = [run_batch(engine, batch) for batch in batches]
    return compare(np.concatenate(made), np.concatenate(list(exact)))


def compare(made: NDArray[np.float32], exact: NDArray[np.float32]) -> Accuracy:
    """Both [M, T]; the loss is the worst task's.

    Were torch's probabilities p the truth, log loss would be H(p) with them and H(p) + KL(p, q) with q instead, and the
    base rate's entropy the same for both: so the relative increase of NE is mean KL / mean H, no labels needed.
    """
    p, q = (np.clip(values.astype(np.float64), _CLIP, 1 - _CLIP) for values in (exact, made))
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    ne_loss = float((divergence.mean(axis=0) / entropy.mean(axis=0)).max())
    return Accuracy(ne_loss, float(np.abs(made - exact).max()))


def run_batch(engine: Engine, batch: Batch) -> NDArray[np.float32]:
    """Probabilities [M, T] of an encoded batch."""
    counts = np.bincount(batch.owner, minlength=len(batch.request_rows)).astype(np.int64)
    return engine.run(batch.request_rows, batch.candidate_rows, counts, batch.history)
