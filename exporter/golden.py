"""The golden request: known features with a known answer, for parity at export and for canaries ever after."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.encoding import Encoder
from exfm.features.schema import Schema, Side
from exfm.features.signature import CANDIDATE_SIDES, HISTORY, REQUEST_SIDES, blocks_of, tensors_of
from exporter.verify import Batch


def encode_request(schema: Schema, tensors: dict[str, NDArray[Any]]) -> Batch:
    """Encode one request, given by name of tensor, as training does."""
    candidates = max(len(value) for name, value in tensors.items() if name.startswith("candidate"))
    return encode_batch(schema, tensors, np.zeros(candidates, np.int64))


def encode_batch(schema: Schema, tensors: dict[str, NDArray[Any]], owner: NDArray[np.int64]) -> Batch:
    """Encode joined requests: `request_*` [B, w], `candidate_*` [M, w], and `owner` [M] says whose each row is."""
    blocks = _blocks(schema, tensors, int(owner[-1]) + 1, len(owner))
    encoder = Encoder(schema)

    def rows(sides: tuple[Side, ...]) -> NDArray[np.int64]:
        return np.concatenate([encoder.encode(s, blocks[s, "ids"], blocks[s, "numbers"]).rows for s in sides], axis=1)

    return Batch(rows(REQUEST_SIDES), rows(CANDIDATE_SIDES), owner, tensors.get(HISTORY))


def _blocks(
    schema: Schema, tensors: dict[str, NDArray[Any]], requests: int, candidates: int
) -> dict[tuple[Side, str], NDArray[Any]]:
    blocks: dict[tuple[Side, str], NDArray[Any]] = {}
    for side in (*REQUEST_SIDES, *CANDIDATE_SIDES):
        for block in blocks_of(schema, side):
            blocks[side, block.kind] = np.empty((requests if side in REQUEST_SIDES else candidates, 0), block.dtype)
    for tensor in (each for each in tensors_of(schema) if each.blocks):
        ends = np.cumsum([block.width for block in tensor.blocks])
        for block, part in zip(tensor.blocks, np.split(tensors[tensor.name], ends[:-1], axis=1), strict=True):
            blocks[block.side, block.kind] = np.ascontiguousarray(part)
    return blocks
