from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

ToWire = Callable[[dict[str, NDArray[Any]]], list[triton_grpc.InferInput]]


@pytest.fixture(scope="session")
def to_wire() -> ToWire:
    """One request's tensors as Triton's client wants them, with the batch dimension of 1."""

    def convert(tensors: dict[str, NDArray[Any]]) -> list[triton_grpc.InferInput]:
        made = []
        for name, value in tensors.items():
            shaped = value[None] if name.startswith("candidate") and value.ndim == 2 else value
            kind = "INT64" if value.dtype == np.int64 else "FP32"
            made.append(triton_grpc.InferInput(name, list(shaped.shape), kind).set_data_from_numpy(shaped))
        return made

    return convert
