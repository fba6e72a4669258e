"""The requests that every system gets: drawn once from the schema, then put into each system's own form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.signature import DTYPES, PROBABILITY, tensors_of
from loadtest.peers.model import Model
from loadtest.workload.making import random_block

UNKNOWN_ADS = 10**15
"""Keys from here on stand for ads that no prior knows."""


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        tensors: by name as `exfm.features.signature.tensors_of` has them, [1, w] or [N, w].
        ads: the candidates' keys, int64 [N], no two alike.
    """

    tensors: dict[str, NDArray[Any]]
    ads: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ads)

    def body(self) -> bytes:
        """As `loadtest.peers.servers.scoring` reads it."""
        return b"".join(values.tobytes() for values in self.tensors.values())


def draw_samples(model: Model, candidates: int, count: int, seed: int) -> list[Sample]:
    """`count` random requests of that many candidates; ids spread over their whole tables, as strangers' would."""
    draw = np.random.default_rng(seed)
    return [_sample(model, candidates, draw) for _ in range(count)]


def golden_sample(model: Model) -> Sample:
    """The request whose answer is known."""
    tensors = {tensor.name: model.golden[tensor.name] for tensor in tensors_of(model.schema)}
    return Sample(tensors, UNKNOWN_ADS + np.arange(len(model.golden[PROBABILITY])))


def same_schema(models: Sequence[Model]) -> bool:
    """Whether a request for one of the models is one for all."""
    return len({model.schema.digest for model in models}) == 1


def _sample(model: Model, candidates: int, draw: np.random.Generator) -> Sample:
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in tensors_of(model.schema):
        rows = candidates if tensor.name.startswith("candidate") else 1
        parts = [random_block(block, rows, draw) for block in tensor.blocks]
        # What no block holds is the history, which no caller sends: strangers have none.
        parts.append(np.zeros((rows, tensor.extra), DTYPES[tensor.kind]))
        tensors[tensor.name] = np.concatenate(parts, axis=1).astype(DTYPES[tensor.kind])
    known = draw.permutation(model.ads)[:candidates]
    ads = np.concatenate([known, UNKNOWN_ADS + np.arange(candidates - len(known))]).astype(np.int64)
    return Sample(tensors, draw.permutation(ads))
