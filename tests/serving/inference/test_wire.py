import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from serving.catalog import Catalog
from serving.errors import BadScoresError
from serving.inference.wire import infer_request, read_scores
from serving.query import RankQuery
from serving.rpc.codec import decode, parse


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(2).SerializeToString()), catalog["feed_click"])


def _response(*outputs: tuple[str, str, list[int], bytes]) -> Any:
    response = service_pb2.ModelInferResponse()
    for name, datatype, shape, raw in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(raw)
    return response


UNKNOWN = ("unknown", "INT32", [1], struct.pack("<i", 3))
SOUND = np.array([[0.1, 0.2], [0.3, 0.4]], "<f4").tobytes()


def test_a_request_is_pinned_timed_and_shaped(query: RankQuery) -> None:
    request = infer_request(query, 0.010)
    assert (request.model_name, request.model_version) == ("feed_click", "3")
    assert request.parameters["timeout"].int64_param == 8000
    shapes = {entry.name: (entry.datatype, list(entry.shape)) for entry in request.inputs}
    assert shapes == {
        "request_ids": ("INT64", [1, 4]),
        "request_numbers": ("FP32", [1, 2]),
        "candidate_ids": ("INT64", [1, 2, 2]),
        "candidate_numbers": ("FP32", [1, 2, 1]),
    }
    assert request.raw_input_contents[2] == query.inputs["candidate_ids"].tobytes()


def test_the_queue_timer_is_never_zero_which_would_mean_none(query: RankQuery) -> None:
    assert infer_request(query, 1e-9).parameters["timeout"].int64_param == 1


@pytest.mark.parametrize("shape", [[2, 2], [1, 2, 2]])
def test_scores_are_read_with_and_without_a_batch_dimension(query: RankQuery, shape: list[int]) -> None:
    scores = read_scores(_response(("probability", "FP32", shape, SOUND), UNKNOWN), query)
    np.testing.assert_allclose(scores.probability, [[0.1, 0.2], [0.3, 0.4]])
    assert scores.unknown == 3


def _with(value: float) -> bytes:
    return np.array([[0.1, 0.2], [value, 0.4]], "<f4").tobytes()


BAD = {
    "no outputs at all": (_response(), "no output probability"),
    "only one output": (_response(("probability", "FP32", [2, 2], SOUND)), "no output unknown"),
    "empty": (_response(("probability", "FP32", [0], b""), UNKNOWN), r"scores are \[0\], not \[2, 2\]"),
    "empty with a shape": (_response(("probability", "FP32", [2, 2], b""), UNKNOWN), "0 bytes for shape"),
    "one row too few": (_response(("probability", "FP32", [1, 2], SOUND[:8]), UNKNOWN), r"\[1, 2\], not \[2, 2\]"),
    "one task": (_response(("probability", "FP32", [2, 1], SOUND[:8]), UNKNOWN), r"\[2, 1\], not \[2, 2\]"),
    "odd bytes": (_response(("probability", "FP32", [2, 2], SOUND[:7]), UNKNOWN), "7 bytes for shape"),
    "other type": (_response(("probability", "FP64", [2, 2], SOUND), UNKNOWN), "FP64, not FP32"),
    "nan": (_response(("probability", "FP32", [2, 2], _with(float("nan"))), UNKNOWN), "not a probability"),
    "infinity": (_response(("probability", "FP32", [2, 2], _with(float("inf"))), UNKNOWN), "not a probability"),
    "above one": (_response(("probability", "FP32", [2, 2], _with(1.5)), UNKNOWN), "not a probability"),
    "no count": (
        _response(("probability", "FP32", [2, 2], SOUND), ("unknown", "INT32", [0], b"")),
        r"\[0\], not \[1\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_set_of_scores_is_refused(query: RankQuery, case: str) -> None:
    response, says = BAD[case]
    with pytest.raises(BadScoresError, match=says):
        read_scores(response, query)
