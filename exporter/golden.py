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
    blocks = _blocks(schema, tensors)
    encoder = Encoder(schema)

    def rows(sides: tuple[Side, ...]) -> NDArray[np.int64]:
        return np.concatenate([encoder.encode(s, blocks[s, "ids"], blocks[s, "numbers"]).rows for s in sides], axis=1)

    candidate_rows = rows(CANDIDATE_SIDES)
    owner = np.zeros(len(candidate_rows), np.int64)
    return Batch(rows(REQUEST_SIDES), candidate_rows, owner, tensors.get(HISTORY))


def _blocks(schema: Schema, tensors: dict[str, NDArray[Any]]) -> dict[tuple[Side, str], NDArray[Any]]:
    candidates = max(len(value) for name, value in tensors.items() if name.startswith("candidate"))
    blocks: dict[tuple[Side, str], NDArray[Any]] = {}
    for side in (*REQUEST_SIDES, *CANDIDATE_SIDES):
        for block in blocks_of(schema, side):
            blocks[side, block.kind] = np.empty((1 if side in REQUEST_SIDES else candidates, 0), block.dtype)
    for tensor in (each for each in tensors_of(schema) if each.blocks):
        ends = np.cumsum([block.width for block in tensor.blocks])
        for block, part in zip(tensor.blocks, np.split(tensors[tensor.name], ends[:-1], axis=1), strict=True):
            blocks[block.side, block.kind] = np.ascontiguousarray(part)
    return blocks
