"""The answers that are known before a load: one set per model, whoever serves it."""

from collections.abc import Sequence

import numpy as np

from loadtest.peers.caller import Probability
from loadtest.peers.model import Model
from loadtest.peers.samples import Sample
from loadtest.peers.servers.scoring import GRAPH, Scoring


def known_of(model: Model, samples: Sequence[Sample]) -> list[Probability | None]:
    """What the model's own graph scores, float32 [N, T] per sample.

    All None for a version without a whole graph, which is one published for another engine: the first system that
    serves it is asked then, once, when nothing else is asked of it, and later turns are held to what it said.
    """
    if not samples or not (model.folder / GRAPH).is_file():
        return [None] * len(samples)
    scoring = Scoring(model.folder)
    answers = (scoring.score([sample.body()])[0] for sample in samples)
    return [np.frombuffer(answer, "<f4").reshape(-1, model.tasks) for answer in answers]
