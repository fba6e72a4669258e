import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.checking.answers import STAGES, fault_of, tier_of
from loadtest.selftest.server import answer, description
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


def two_scores(response: pb.RankResponse) -> None:
    response.ledger.stages.add(name="score", duration_us=0)


def order_first(response: pb.RankResponse) -> None:
    response.ledger.stages.insert(0, pb.Stage(name="order", duration_us=0))


def other_stage(response: pb.RankResponse) -> None:
    response.ledger.stages.add(name="sleep", duration_us=0)


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
    (two_scores, "in another order"),
    (order_first, "in another order"),
    (other_stage, "of other stages"),
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


def test_a_ledger_holds_no_more_than_the_caller_waited(workload: Workload) -> None:
    asked, response = workload.at(0), of(workload.at(0))
    stages = [pb.Stage(name="wait", duration_us=9_000), pb.Stage(name="score", duration_us=6_000)]
    response.ledger.CopyFrom(pb.Ledger(budget_us=25_000, spent_us=15_000, stages=stages))
    assert fault_of(asked, response) == fault_of(asked, response, 0.0051) == ""  # the wait is an estimate
    assert "more time than the caller waited" in fault_of(asked, response, 0.0049)


def test_the_stages_are_the_servers() -> None:
    itinerary = (Path(__file__).parents[3] / "serving" / "ranker.py").read_text(encoding="utf-8")
    assert tuple(re.findall(r'ledger\.close\("(\w+)"\)', itinerary)) == STAGES


def test_an_answer_is_of_a_tier_that_the_server_has(workload: Workload) -> None:
    asked = workload.held_to(description()).at(0)
    response = of(asked)
    assert (asked.tiers, fault_of(asked, response)) == (("full",), "")
    response.tier = pb.TIER_LITE
    assert "tier lite" in fault_of(asked, response)
    assert fault_of(workload.at(0), response) == ""  # nobody has said which there are


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
