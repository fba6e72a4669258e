import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from serving.admission.priority import Priority
from serving.catalog import Batching, Catalog
from serving.errors import BadScoresError
from serving.inference.scorer import Scores
from serving.inference.wire import infer_request, jagged_request, read_scores, split_scores
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


def test_the_queue_knows_what_goes_first(query: RankQuery) -> None:
    lesser = replace(query, priority=Priority.SHADOW)
    assert infer_request(query, 0.010).parameters["priority"].uint64_param == 1
    assert infer_request(lesser, 0.010).parameters["priority"].uint64_param == 3
    assert jagged_request([lesser, query], 0.010).parameters["priority"].uint64_param == 1


def test_a_model_that_takes_batches_gets_one_of_one_request(query: RankQuery) -> None:
    batched = replace(query, vertical=replace(query.vertical, batching=Batching(3, 8)))
    assert infer_request(batched, 0.010) == jagged_request([batched], 0.010)


def test_a_batch_is_joined_without_padding(catalog: Catalog, make_message: Callable[..., Any]) -> None:
    messages = [make_message(size, seed=size) for size in (2, 1, 4)]
    queries = [decode(parse(message.SerializeToString()), catalog["feed_click"]) for message in messages]
    request = jagged_request(queries, 0.010)
    assert (request.model_name, request.model_version) == ("feed_click", "3")
    assert request.parameters["timeout"].int64_param == 8000
    shapes = {entry.name: (entry.datatype, list(entry.shape)) for entry in request.inputs}
    assert shapes == {
        "request_ids": ("INT64", [3, 4]),
        "request_numbers": ("FP32", [3, 2]),
        "candidate_ids": ("INT64", [7, 2]),
        "candidate_numbers": ("FP32", [7, 1]),
        "owner": ("INT64", [7]),
    }
    assert np.frombuffer(request.raw_input_contents[4], "<i8").tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert request.raw_input_contents[2] == b"".join(query.inputs["candidate_ids"].tobytes() for query in queries)


def _batch(probability: Any, unknown: Any = (3, 4)) -> Any:
    values, counts = np.array(probability, "<f4"), np.array(unknown, "<i4")
    return _response(
        ("probability", "FP32", list(values.shape), values.tobytes()),
        ("unknown", "INT32", list(counts.shape), counts.tobytes()),
    )


def test_a_batchs_scores_are_cut_up_and_one_bad_part_is_its_own(query: RankQuery) -> None:
    sound = [[0.1, 0.2], [0.3, 0.4]]
    first, second = split_scores(_batch([*sound, [0.5, float("nan")], [0.7, 0.8]]), [query, query])
    assert isinstance(first, Scores)
    np.testing.assert_allclose(first.probability, sound)
    assert first.unknown == 3
    assert isinstance(second, BadScoresError)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (_response(), "no output probability"),
        (_batch([[0.1, 0.2]] * 3), r"\[3, 2\] and \[2\] for 2 requests of 4"),
        (_batch([[0.1, 0.2]] * 4, [1]), r"\[4, 2\] and \[1\]"),
        (_batch([]), r"\[0\] and"),
    ],
)
def test_what_is_no_batch_of_scores_is_refused(query: RankQuery, response: Any, says: str) -> None:
    with pytest.raises(BadScoresError, match=says):
        split_scores(response, [query, query])


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
