"""Compressed embeddings as bytes: int8 and int4 codes of vectors in [-1, 1]; numpy only, shared by all sides."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Codec = Literal["int8", "int4"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


def code_bytes(dimension: int, codec: Codec) -> int:
    """Bytes of one vector's code."""
    return dimension if codec == "int8" else (dimension + 1) // 2


def quantise(values: Floats, codec: Codec) -> Codes:
    """Code vectors, float32 [N, d] within [-1, 1], as uint8 [N, code_bytes(d, codec)].

    int8: round(127 z). int4: clamp(round(8 z), -8, 7), two codes a byte, the first in the low half (LoopFM, arXiv
    2605.29280, section on compression); its grid ends at 7/8. NaN becomes 0.
    """
    known = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
    if codec == "int8":
        return np.clip(np.rint(known * 127), -127, 127).astype(np.int8).view(np.uint8)
    codes = (np.clip(np.rint(known * 8), -8, 7).astype(np.int8) & 0x0F).astype(np.uint8)
    if codes.shape[1] % 2:
        codes = np.concatenate([codes, np.zeros((len(codes), 1), np.uint8)], 1)
    return np.asarray(codes[:, ::2] | (codes[:, 1::2] << 4))


def restore(codes: Codes, dimension: int, codec: Codec) -> Floats:
    """The vectors that codes stand for, float32 [N, dimension]; the inverse of `quantise` up to its rounding."""
    if codec == "int8":
        return codes.view(np.int8)[:, :dimension].astype(np.float32) / np.float32(127)
    halves = np.stack([codes & 0x0F, codes >> 4], 2).reshape(len(codes), -1)[:, :dimension].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.float32) / np.float32(8)
