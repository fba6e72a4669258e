"""How good predicted probabilities are: AUC, log loss, normalized entropy, calibration."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""


@dataclass(frozen=True)
class Figures:
    """Over `rows` labelled rows; NaN where a figure is not defined (no rows, or one class only)."""

    rows: int
    auc: float
    log_loss: float
    ne: float
    calibration: float


def measure(labels: Floats, probabilities: Floats) -> Figures:
    """All figures of probabilities [N] against 0/1 labels [N]; rows whose label is NaN are left out."""
    known = ~np.isnan(labels)
    y, p = labels[known].astype(np.float64), probabilities[known].astype(np.float64)
    return Figures(len(y), auc(y, p), log_loss(y, p), normalized_entropy(y, p), calibration(y, p))


def auc(labels: Floats, probabilities: Floats) -> float:
    """Area under the ROC curve by the rank-sum formula; ties count one half."""
    positives = float(np.count_nonzero(labels > 0))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_rank[inverse][labels > 0].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(labels: Floats, probabilities: Floats) -> float:
    """Mean binary cross-entropy, in nats."""
    if not len(labels):
        return math.nan
    p = np.clip(probabilities, CLIP, 1 - CLIP)
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log1p(-p)))


def entropy(rate: float) -> float:
    """Entropy of a coin with that rate, in nats; 0 at 0 and 1."""
    return -sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)


def normalized_entropy(labels: Floats, probabilities: Floats) -> float:
    """Log loss over the entropy of the labels' own base rate (He et al. 2014): below 1 beats the base rate."""
    base = entropy(float(np.mean(labels))) if len(labels) else 0.0
    return log_loss(labels, probabilities) / base if base else math.nan


def calibration(labels: Floats, probabilities: Floats) -> float:
    """Sum of probabilities over sum of labels; 1 is calibrated on the whole, above 1 promises too much."""
    positives = float(np.sum(labels))
    return float(np.sum(probabilities)) / positives if positives else math.nan
