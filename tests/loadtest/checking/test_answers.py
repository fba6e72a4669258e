from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.checking.answers import fault_of, tier_of
from loadtest.selftest.server import answer
from loadtest.workload.asked import Asked, Workload, asked_of
from serving.rpc.pb import ranking_pb2 as pb

Change = Callable[[pb.RankResponse], None]


def of(asked: Asked) -> pb.RankResponse:
    return answer(pb.RankRequest.FromString(asked.message))


def set_first(name: str, value: float) -> Change:
    def change(response: pb.RankResponse) -> None:
        getattr(response, name)[0] = value

    return change


def scores(position: int, value: float) -> Change:
    def change(response: pb.RankResponse) -> None:
        response.scores[0].probabilities[position] = value

    return change


def swap_two(response: pb.RankResponse) -> None:
    columns: tuple[Any, ...] = (response.ad_ids, response.expected_values, response.scores[0].probabilities)
    for column in columns:
        column[0], column[-1] = column[-1], column[0]


def drop_last(response: pb.RankResponse) -> None:
    for column in (response.ad_ids, response.expected_values, response.scores[0].probabilities):
        del column[-1]


def double_an_ad(response: pb.RankResponse) -> None:
    response.ad_ids[1] = response.ad_ids[0]


def rename_task(response: pb.RankResponse) -> None:
    response.scores[0].task = "other"


def no_scores(response: pb.RankResponse) -> None:
    del response.scores[:]


def other_id(response: pb.RankResponse) -> None:
    response.request_id = "other"


def no_tier(response: pb.RankResponse) -> None:
    response.tier = pb.TIER_UNSPECIFIED


def more_spent(response: pb.RankResponse) -> None:
    response.ledger.spent_us += 1


def no_ledger(response: pb.RankResponse) -> None:
    response.ClearField("ledger")


CHANGES: list[tuple[Change, str]] = [
    (swap_two, "out of order"),
    (drop_last, "19 ads"),
    (double_an_ad, "not the request's ads"),
    (set_first("ad_ids", 1), "not the request's ads"),
    (set_first("expected_values", float("nan")), "not finite"),
    (set_first("expected_values", 99.0), "bid times probability"),
    (scores(0, float("nan")), "no probabilities"),
    (scores(3, float("inf")), "no probabilities"),
    (scores(3, -0.1), "no probabilities"),
    (scores(3, 1.5), "no probabilities"),
    (rename_task, "scores for other"),
    (no_scores, "scores for nothing"),
    (other_id, "another request's id"),
    (no_tier, "no known tier"),
    (more_spent, "doesn't add up"),
    (no_ledger, "without budget"),
]


def test_a_sound_answer_has_no_fault(workload: Workload) -> None:
    for asked in workload.requests:
        assert fault_of(asked, of(asked)) == ""
        assert tier_of(of(asked)) == "full"


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_every_fault_is_found(workload: Workload, change: Change, said: str) -> None:
    response = of(workload.at(0))
    change(response)
    assert said in fault_of(workload.at(0), response)


@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), st.floats(0, 1e6)), min_size=1, max_size=50, unique_by=lambda p: p[0]
    )
)
def test_answers_to_any_request_pass_and_any_other_order_of_worth_fails(pairs: list[tuple[int, float]]) -> None:
    request = pb.RankRequest(request_id="x", ad_ids=[ad for ad, _ in pairs], bids=[bid for _, bid in pairs])
    asked = asked_of(request.SerializeToString(), ["click"])
    response = answer(request)
    assert fault_of(asked, response) == ""
    expected = np.array(response.expected_values)
    if expected[0] > expected[-1]:
        swap_two(response)
        assert "order" in fault_of(asked, response)


def test_equal_worth_keeps_the_requests_order() -> None:
    request = pb.RankRequest(request_id="x", ad_ids=[5, 3, 9], bids=[0.0, 0.0, 0.0])
    response = answer(request)
    asked = asked_of(request.SerializeToString(), ["click"])
    assert fault_of(asked, response) == ""
    response.ad_ids[:] = [3, 5, 9]
    response.scores[0].probabilities[:] = [0.0, 0.0, 0.0]
    assert "ties" in fault_of(asked, response)
