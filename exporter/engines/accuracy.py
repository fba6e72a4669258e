"""How far an engine's probabilities are from torch's, and what that costs in normalized entropy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.runner.engine import Engine
from exporter.runner.scorer import ne_loss
from exporter.verify import Batch

NE_LOSS_BOUND = 2e-4
"""The largest relative increase of normalized entropy that an engine may cost: 0.02 %."""
GOLDEN_NE_LOSS = 10 * NE_LOSS_BOUND
"""The same on the golden request alone, whose few candidates may by chance be three times as far off, and the loss goes
as the square. Scores of zero, or those of another task, are beyond it however small all probabilities are."""


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
    """Both [M, T]; see `ne_loss`."""
    return Accuracy(ne_loss(made, exact), float(np.abs(made - exact).max()))


def run_batch(engine: Engine, batch: Batch) -> NDArray[np.float32]:
    """Probabilities [M, T] of an encoded batch."""
    counts = np.bincount(batch.owner, minlength=len(batch.request_rows)).astype(np.int64)
    return engine.run(batch.request_rows, batch.candidate_rows, counts, batch.history)
