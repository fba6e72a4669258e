"""Counts of several processes add up to those of one that had sent all, and to what `run` makes of each request."""

import json

import numpy as np
import pytest

from loadtest.checking.record import Record
from loadtest.driving.target import Reply
from loadtest.report.document import by_tier, ledger, timeline
from loadtest.swarm.document import by_kind, slices
from loadtest.swarm.part import MOST_VERSIONS, Part

BUDGET_S, SECONDS, COUNT = 0.025, 12.0, 900
DRAW = np.random.default_rng(5)
AT_S = np.sort(DRAW.uniform(0, SECONDS, COUNT))
LATENCY_S = DRAW.lognormal(-5.0, 0.8, COUNT)
TIERS = DRAW.choice(["full", "lite", "shed", "wrong"], COUNT, p=[0.7, 0.1, 0.1, 0.1])
MODEL_MS = DRAW.uniform(0.5, 3.0, COUNT)


def reply(index: int) -> Reply:
    tier = str(TIERS[index])
    stages = {} if tier == "shed" else {"model": float(MODEL_MS[index])} | ({"queue": 0.2} if index % 2 else {})
    return Reply(tier in {"full", "lite"}, tier, stages_ms=stages, version=1 + int(AT_S[index] > 6) if stages else 0)


def parts(processes: int) -> list[Part]:
    made = [Part(BUDGET_S, 1.0, zero_unix_s=100.0 + number) for number in range(processes)]
    for index, at_s in enumerate(AT_S.tolist()):
        one = made[index % processes]
        one.owed += 1
        one.add(at_s, int(at_s > 6), reply(index), float(LATENCY_S[index]), 0.001)
    return made


def together(processes: int) -> Part:
    total = Part(BUDGET_S, 1.0)
    for part in parts(processes):
        total.merge(Part.from_plain(json.loads(json.dumps(part.plain()))))
    return total


def test_three_processes_count_as_one() -> None:
    one, three = together(1), together(3)
    assert three.tally().plain() == one.tally().plain()
    assert (three.owed, three.sent, three.zero_unix_s) == (COUNT, COUNT, 100.0)
    assert slices(three, SECONDS) == slices(one, SECONDS)
    assert {number: tally.offered for number, tally in three.loads.items()} == {
        0: (AT_S <= 6).sum(),
        1: (AT_S > 6).sum(),
    }
    assert three.stages.ledger(BUDGET_S)["model"] == pytest.approx(one.stages.ledger(BUDGET_S)["model"])
    assert [version for _, version in three.versions] == [1, 2]


def test_counts_say_what_a_record_of_each_request_says() -> None:
    made, replies = together(2), [reply(index) for index in range(COUNT)]
    columns = {name: np.array([each.stages_ms.get(name, np.nan) for each in replies]) for name in ("model", "queue")}
    ok = np.array([each.ok for each in replies])
    none = np.zeros(COUNT)
    record = Record(AT_S, LATENCY_S, none, ok, TIERS, none.astype(np.int64), ("",) * COUNT, columns)
    # A histogram names a latency that some request had, numpy one between two; both have three digits in common.
    for ours, theirs in zip(slices(made, SECONDS), timeline(record, SECONDS, BUDGET_S), strict=True):
        for name in ("at_s", "seconds", "offered", "late", "tiers"):
            assert ours[name] == theirs[name]
        assert ours["p50_ms"] == pytest.approx(theirs["p50_ms"], rel=0.1)
    said, expected = made.stages.ledger(BUDGET_S), ledger(record, BUDGET_S)
    assert list(said) == list(expected)
    for name, stage in expected.items():
        assert said[name]["answers"] == stage["answers"]
        assert said[name]["mean_ms"] == pytest.approx(stage["mean_ms"])
        assert said[name]["p99_ms"] == pytest.approx(stage["p99_ms"], rel=0.1)
    for tier, each in by_tier(record).items():
        assert by_kind(made)[tier]["p50_ms"] == pytest.approx(each["p50_ms"], rel=0.05)


def test_an_answer_of_both_versions_in_turn_does_not_fill_the_page() -> None:
    part = Part(BUDGET_S, 1.0)
    for index in range(500):
        part.add(index / 1000, 0, Reply(True, "full", version=1 + index % 2), 0.004, 0.0)
    assert len(part.versions) == MOST_VERSIONS


def test_what_is_no_part_is_refused() -> None:
    with pytest.raises(KeyError):
        Part.from_plain({"budget_s": 1.0})
