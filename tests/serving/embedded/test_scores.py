"""What a real Triton answers for published models."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from exfm.features.schema import Schema
from exfm.features.signature import PROBABILITY, UNKNOWN
from serving.embedded.process import EmbeddedTriton

CALL_S = 10.0


def to_wire(tensors: dict[str, NDArray[Any]]) -> list[triton_grpc.InferInput]:
    """One request's tensors as Triton's client wants them, with the batch dimension of 1."""
    made = []
    for name, value in tensors.items():
        shaped = value[None] if name.startswith("candidate") else value
        kind = "INT64" if value.dtype == np.int64 else "FP32"
        made.append(triton_grpc.InferInput(name, list(shaped.shape), kind).set_data_from_numpy(shaped))
    return made


@pytest.fixture
def client(embedded_triton: EmbeddedTriton) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(embedded_triton.address) as client:
        yield client


@pytest.mark.parametrize("vertical", ["feed_click", "feed_long_view"])
def test_golden_scores(client: Any, published_repository: Path, vertical: str) -> None:
    golden = dict(np.load(published_repository / vertical / "1" / "golden.npz"))
    expected = golden.pop(PROBABILITY)
    result = client.infer(vertical, to_wire(golden), model_version="1", client_timeout=CALL_S)
    np.testing.assert_allclose(result.as_numpy(PROBABILITY)[0], expected, atol=1e-5)
    assert result.as_numpy(UNKNOWN).shape == (1, 1)


def test_scores_do_not_depend_on_the_company(client: Any, tiny_schema: Schema, make_request: Any) -> None:
    own = tiny_schema.for_vertical("feed_click")
    wired = [to_wire(make_request(own, size, seed)) for seed, size in enumerate([1, 500, 7, 64, 3, 200, 33, 2] * 6)]

    def ask(inputs: Any) -> tuple[Any, int]:
        result = client.infer("feed_click", inputs, model_version="1", client_timeout=CALL_S)
        return result.as_numpy(PROBABILITY), int(result.as_numpy(UNKNOWN)[0, 0])

    alone = [ask(inputs) for inputs in wired]
    before = client.get_inference_statistics("feed_click").model_stats[0]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, wired))
    after = client.get_inference_statistics("feed_click").model_stats[0]
    assert after.execution_count - before.execution_count < after.inference_count - before.inference_count
    for (scores, unknown), (expected, expected_unknown) in zip(together, alone, strict=True):
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        assert unknown == expected_unknown


def test_a_bad_request_gets_its_own_error(client: Any, tiny_schema: Schema, make_request: Any) -> None:
    own = tiny_schema.for_vertical("feed_click")
    good, bad = make_request(own, 6), make_request(own, 6)
    bad["candidate_numbers"] = bad["candidate_numbers"][:2]

    def ask(tensors: Any) -> Any:
        try:
            return client.infer("feed_click", to_wire(tensors), client_timeout=CALL_S).as_numpy(PROBABILITY)
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [good, bad] * 8))
    for right, wrong in zip(answers[::2], answers[1::2], strict=True):
        np.testing.assert_allclose(right, answers[0], atol=1e-6)
        assert isinstance(wrong, InferenceServerException)
        assert wrong.status() == "StatusCode.INVALID_ARGUMENT"
        assert "candidate_numbers" in str(wrong.message())


def test_the_configuration_carries_the_schema_hash(client: Any, tiny_schema: Schema) -> None:
    config = client.get_model_config("feed_click", client_timeout=CALL_S).config
    assert config.parameters["schema_hash"].string_value == tiny_schema.for_vertical("feed_click").digest
