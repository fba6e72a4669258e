"""The teacher's forward pass over a batch: a pseudo-label per task and a compressed embedding, nothing learned."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot
from exfm.features.embeddings import Codec, Codes, code_bytes, quantise
from exfm.models.lazy.errors import LazyTableError

Floats = NDArray[np.float32]
PIECE = 4096
"""Rows per call of the model: more gain nothing and fall out of the caches."""


class ForwardError(Exception):
    """The forward pass failed, but not for what the rows hold; fewer rows, or the same ones later, may pass."""


@dataclass(frozen=True)
class Annotations:
    """What the teacher says of N rows: probability float32 [N, tasks], codes uint8 [N, bytes of an embedding]."""

    probability: Floats
    codes: Codes

    def __len__(self) -> int:
        return len(self.probability)


def annotate(snapshot: Snapshot, rows: NDArray[np.int64], counters: Floats, codec: Codec) -> Annotations:
    """One forward per row.

    Args:
        snapshot: who says it.
        rows: int64 [N, features], table rows in the schema's order.
        counters: float32 [N, C].
        codec: of the embeddings.

    Raises:
        PoisonError: an answer is not finite, or a table row does not exist.
        ForwardError: the pass failed for another reason than these rows, such as memory.
    """
    pieces = [
        _piece(snapshot, rows[at : at + PIECE], counters[at : at + PIECE], codec) for at in range(0, len(rows), PIECE)
    ]
    if not pieces:
        return nothing(0, len(snapshot.tasks), snapshot.dimension, codec)
    return Annotations(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def nothing(rows: int, tasks: int, dimension: int, codec: Codec) -> Annotations:
    """Rows of which no teacher said anything."""
    return Annotations(
        np.full((rows, tasks), np.nan, np.float32), np.zeros((rows, code_bytes(dimension, codec)), np.uint8)
    )


def join(parts: list[Annotations]) -> Annotations:
    """One after the other."""
    return Annotations(np.concatenate([p.probability for p in parts]), np.concatenate([p.codes for p in parts]))


def line_of(error: BaseException) -> str:
    """What an error says in one line; its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()


def _piece(snapshot: Snapshot, rows: NDArray[np.int64], counters: Floats, codec: Codec) -> tuple[Floats, Codes]:
    model = snapshot.model
    device = model.standardizer.mean.device
    empty = np.empty((len(rows), 0), np.float32)
    try:
        with torch.no_grad():  # fbgemm knows no inference mode on processors
            given = (torch.from_numpy(each).to(device) for each in (rows, counters))
            hidden, first_order = model.represent(*given)
            probability = torch.sigmoid(model.predict(hidden, first_order)).cpu().numpy()
            embedding = model.compressor(hidden).cpu().numpy() if model.compressor else empty
    except IndexError as error:
        raise PoisonError(f"the teacher fails on these rows: {error}") from error
    except (RuntimeError, MemoryError, LazyTableError) as error:
        raise ForwardError(f"the teacher's forward pass failed: {line_of(error)}") from error
    if not (np.isfinite(probability).all() and np.isfinite(embedding).all()):
        raise PoisonError("the teacher's answer is not finite")
    return probability, quantise(embedding, codec)
