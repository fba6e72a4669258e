"""What every peer runs: feature bytes in, probabilities out, with ONNX Runtime on one thread.

This file needs numpy, ONNX Runtime and a published version's folder, which holds graph, schema and encoding. It is the
same for all peers, so that they differ in how they serve and in nothing else.

A body is the request's tensors one after another, little-endian: `request_ids` int64 [1, w], `request_numbers` float32
[1, w], `request_history` float32 [1, w], `candidate_ids` int64 [N, w], `candidate_numbers` float32 [N, w], in the
schema's order and without those of width 0; N follows from the length. An answer is float32 [N, T], little-endian.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

MAX_BATCH = 8
"""The most requests that a peer's batcher may join; as many as ours joins."""
PATH = "/score"
GRAPH = "model.onnx"
"""In a version's folder: the whole student."""


class Scoring:
    """Scores bodies with the graph of one version folder."""

    def __init__(self, folder: Path) -> None:
        """Load the graph; the encoding comes from the folder, unless this process has it already."""
        sys.path.append(str(folder))
        schemas = importlib.import_module("exfm.features.schema")
        signature = importlib.import_module("exfm.features.signature")
        schema = schemas.Schema.load(folder / "schema.json")
        self._encoder = importlib.import_module("exfm.features.encoding").Encoder(schema)
        self._tensors = signature.tensors_of(schema)
        self._dtypes = signature.DTYPES
        self._sides = schemas.SIDES
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(folder / GRAPH)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        fixed = [t.width * self._dtypes[t.kind].itemsize for t in self._tensors if t.name.startswith("request")]
        each = [t.width * self._dtypes[t.kind].itemsize for t in self._tensors if t.name.startswith("candidate")]
        self._fixed_bytes, self._row_bytes = sum(fixed), sum(each)

    def score(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Answer several requests with one run of the graph; `ValueError` if a body has no possible length."""
        counts = [self._count(body) for body in bodies]
        read = [self._read(body, count) for body, count in zip(bodies, counts, strict=True)]
        joined = {t.name: np.concatenate([request[t.name] for request in read]) for t in self._tensors}
        rows = self._encode(joined, len(bodies), sum(counts))
        # A history, where the schema has one, goes to the graph as it came, if the graph reads it.
        feed = {
            **joined,
            "request_rows": np.concatenate((rows["user"], rows["context"]), axis=1),
            "candidate_rows": rows["ad"],
            "owner": np.repeat(np.arange(len(bodies)), counts),
        }
        (probability,) = self._session.run(None, {name: feed[name] for name in self._inputs})
        return [part.tobytes() for part in np.split(probability.astype("<f4"), np.cumsum(counts)[:-1])]

    def _count(self, body: bytes) -> int:
        count: int
        count, rest = divmod(len(body) - self._fixed_bytes, self._row_bytes)
        if rest or count < 1:
            raise ValueError(f"a body of {len(body)} bytes is no request: {self._fixed_bytes} + N * {self._row_bytes}")
        return count

    def _read(self, body: bytes, count: int) -> dict[str, NDArray[Any]]:
        made, start = {}, 0
        for tensor in self._tensors:
            size = tensor.width * (count if tensor.name.startswith("candidate") else 1)
            values = np.frombuffer(body, self._dtypes[tensor.kind], size, start)
            made[tensor.name] = values.reshape(-1, tensor.width)
            start += values.nbytes
        return made

    def _encode(self, joined: dict[str, NDArray[Any]], requests: int, candidates: int) -> dict[str, NDArray[np.int64]]:
        """Table rows by side; a block that the schema leaves out has width 0."""
        blocks: dict[str, dict[str, NDArray[Any]]] = {}
        for side in self._sides:
            count = candidates if side == "ad" else requests
            blocks[side] = {kind: np.empty((count, 0), dtype) for kind, dtype in self._dtypes.items()}
        for tensor in self._tensors:
            start = 0
            for block in tensor.blocks:
                blocks[block.side][block.kind] = joined[tensor.name][:, start : start + block.width]
                start += block.width
        return {side: self._encoder.encode(side, *blocks[side].values()).rows for side in self._sides}
