"""The table of outcomes against the contract's own tiers and gRPC's statuses."""

import grpc
import numpy as np

from loadtest.checking.outcomes import BAD, SAID, SCORED, TIERS, Outcome, late, of_status, of_tier
from serving.rpc.pb import ranking_pb2 as pb


def test_the_tiers_are_the_contracts_by_number_and_name() -> None:
    named = {number: name.removeprefix("TIER_").lower() for name, number in pb.Tier.items()}
    assert {number: of_tier(number) for number in named} == {**named, 0: None}
    assert of_tier(len(TIERS) + 1) is of_tier(-1) is None
    assert set(SCORED) == set(TIERS) - {Outcome.PRIOR}


def test_every_outcome_says_something_or_is_bad() -> None:
    assert sorted((*SAID, *BAD)) == sorted(Outcome)


def test_a_status_is_a_refusal_or_no_answer_or_a_failure() -> None:
    made = {status: of_status(status) for status in (*grpc.StatusCode, None)}
    assert made.pop(grpc.StatusCode.RESOURCE_EXHAUSTED) is Outcome.SHED
    assert made.pop(grpc.StatusCode.DEADLINE_EXCEEDED) is Outcome.UNANSWERED
    assert set(made.values()) == {Outcome.FAILED}


def test_late_is_what_said_nothing_in_time() -> None:
    outcome = np.array([*Outcome, *Outcome], np.str_)
    latency_s = np.repeat([0.01, 0.03], len(Outcome))
    in_time = set(outcome[~late(latency_s, outcome, 0.025)])
    assert in_time == set(SAID)
    assert late(latency_s, outcome, 0.025)[len(Outcome) :].all()
