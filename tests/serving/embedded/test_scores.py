"""What a real Triton answers for published models."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from exfm.features.schema import Schema
from exfm.features.signature import OWNER, PROBABILITY, UNKNOWN
from serving.embedded.process import EmbeddedTriton

CALL_S = 10.0


def to_wire(tensors: dict[str, NDArray[Any]]) -> list[triton_grpc.InferInput]:
    """One request's tensors, or those of several joined with their `owner`, as Triton's client wants them."""
    made = []
    for name, value in {OWNER: np.zeros(len(tensors["candidate_ids"]), np.int64), **tensors}.items():
        kind = "INT64" if value.dtype == np.int64 else "FP32"
        made.append(triton_grpc.InferInput(name, list(value.shape), kind).set_data_from_numpy(value))
    return made


def together(requests: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The tensors of several requests, joined."""
    owner = np.repeat(np.arange(len(requests)), [len(request["candidate_ids"]) for request in requests])
    return {OWNER: owner, **{name: np.concatenate([request[name] for request in requests]) for name in requests[0]}}


def infer(client: Any, vertical: str, tensors: dict[str, NDArray[Any]], version: str = "1") -> Any:
    """Triton's answer; where a machine stands still the time in Triton's queue runs out, and it is asked again."""
    until_s = time.monotonic() + CALL_S
    while True:
        try:
            return client.infer(vertical, to_wire(tensors), model_version=version, client_timeout=CALL_S)
        except InferenceServerException as error:
            if "timeout expired" not in str(error.message()) or time.monotonic() > until_s:
                raise


@pytest.fixture
def client(embedded_triton: EmbeddedTriton) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(embedded_triton.address) as client:
        yield client


@pytest.mark.parametrize("vertical", ["feed_click", "feed_long_view"])
def test_golden_scores(client: Any, published_repository: Path, vertical: str) -> None:
    golden = dict(np.load(published_repository / vertical / "1" / "golden.npz"))
    expected = golden.pop(PROBABILITY)
    result = infer(client, vertical, golden)
    np.testing.assert_allclose(result.as_numpy(PROBABILITY), expected, atol=1e-5)
    assert result.as_numpy(UNKNOWN).shape == (1,)


def test_scores_do_not_depend_on_the_company(client: Any, tiny_schema: Schema, make_request: Any) -> None:
    own = tiny_schema.for_vertical("feed_click")
    requests = [make_request(own, size, seed) for seed, size in enumerate([1, 500, 7, 64, 3, 200, 33, 2])]

    def ask(tensors: dict[str, NDArray[Any]]) -> tuple[Any, Any]:
        result = infer(client, "feed_click", tensors)
        return result.as_numpy(PROBABILITY), result.as_numpy(UNKNOWN)

    alone = [ask(request) for request in requests]
    batches = [requests, requests[::-1], requests[2:5], [requests[0]] * 8] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, map(together, batches)))
    places = {id(request): place for place, request in enumerate(requests)}
    for batch, (scores, unknown) in zip(batches, answers, strict=True):
        expected = [alone[places[id(request)]] for request in batch]
        np.testing.assert_allclose(scores, np.concatenate([one for one, _ in expected]), atol=1e-6)
        assert unknown.tolist() == [int(count[0]) for _, count in expected]


def test_a_bad_batch_gets_its_own_error(client: Any, tiny_schema: Schema, make_request: Any) -> None:
    own = tiny_schema.for_vertical("feed_click")
    good, bad, strange = (together([make_request(own, 6), make_request(own, 2)]) for _ in range(3))
    bad["candidate_numbers"] = bad["candidate_numbers"][:2]
    strange[OWNER] = np.full(8, 3)

    def ask(tensors: Any) -> Any:
        try:
            return infer(client, "feed_click", tensors, version="").as_numpy(PROBABILITY)
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [good, bad, strange] * 4))
    for right in answers[::3]:
        np.testing.assert_allclose(right, answers[0], atol=1e-6)
    for wrong, says in [(wrong, "candidate_numbers") for wrong in answers[1::3]] + [
        (wrong, "owner does not say whose of 2 requests each of 8 rows is") for wrong in answers[2::3]
    ]:
        assert isinstance(wrong, InferenceServerException)
        assert wrong.status() == "StatusCode.INVALID_ARGUMENT"
        assert says in str(wrong.message())


def test_the_configuration_carries_the_schema_hash(client: Any, tiny_schema: Schema) -> None:
    config = client.get_model_config("feed_click", client_timeout=CALL_S).config
    assert config.parameters["schema_hash"].string_value == tiny_schema.for_vertical("feed_click").digest
