"""Requests to measure with, raw and encoded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.history import HistoryInputs, row_of
from exfm.features.schema import Feature, HistorySpec, Schema
from exfm.features.signature import CANDIDATE_SIDES, DTYPES, HISTORY, REQUEST_SIDES, tensors_of
from exfm.features.values import key_of
from exporter.verify import Batch

ACCURACY_SIZES = (1, 3, 64, 17, 200, 500)
"""Candidates per request of each batch that accuracy is measured on."""


def random_request(schema: Schema, candidates: int, seed: int) -> dict[str, NDArray[Any]]:
    """A request's tensors with values drawn uniformly, known ones where the schema knows them."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    if schema.history:
        made[HISTORY] = random_history(schema.history, 1, rng)
    for tensor in (each for each in tensors_of(schema) if each.blocks):
        rows = candidates if tensor.per_candidate else 1
        columns = [_draw(rng, feature, rows) for block in tensor.blocks for feature in block.features]
        made[tensor.name] = np.stack(columns, axis=1).astype(DTYPES[tensor.kind])
    return made


def random_history(spec: HistorySpec, requests: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows of `request_history`, some of them without an event, others with fewer than there is room for."""
    known = rng.integers(-1, spec.length, requests)[:, None] >= np.arange(spec.length)[::-1]
    values = rng.uniform(-1, 1, (requests, spec.length, spec.dimension)).astype(np.float32)
    age_s = rng.uniform(0, 30 * 86_400, known.shape).astype(np.float32)
    return row_of(HistoryInputs(values * known[:, :, None], known, age_s * known))


def _draw(rng: np.random.Generator, feature: Feature, rows: int) -> NDArray[Any]:
    if feature.kind == "number":
        return rng.uniform(min(feature.boundaries) - 1, max(feature.boundaries) + 1, rows)
    if feature.kind == "id":
        return rng.integers(0, 2**40, rows)
    return rng.choice(np.array([key_of(value) for value in feature.vocabulary], np.int64), rows)


def random_rows(schema: Schema, usable: NDArray[np.bool_], seed: int, sizes: Sequence[int] = ACCURACY_SIZES) -> Batch:
    """Encoded requests, jagged, each feature's rows drawn from its own; only usable ones where it has such.

    Args:
        schema: the vertical's own.
        usable: bool [rows of the table], say those that training has touched.
        seed: of the drawing.
        sizes: candidates of each request.
    """
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *(feature.rows for feature in schema.ordered)])
    pools = {}
    for feature, start, stop in zip(schema.ordered, starts, starts[1:], strict=False):
        pool = np.flatnonzero(usable[start:stop]) + start
        pools[feature.name] = pool if len(pool) else np.arange(start, stop)

    def draw(sides: tuple[Any, ...], rows: int) -> NDArray[np.int64]:
        features = [feature for side in sides for feature in schema.side(side)]
        columns = [rng.choice(pools[feature.name], rows) for feature in features]
        return np.stack(columns, axis=1) if columns else np.empty((rows, 0), np.int64)

    count = len(sizes)
    owner = np.repeat(np.arange(count), sizes)
    history = random_history(schema.history, count, rng) if schema.history else None
    return Batch(draw(REQUEST_SIDES, count), draw(CANDIDATE_SIDES, len(owner)), owner, history)
