"""The verdict over all of locust's processes."""

from argparse import Namespace

import pytest

from loadtest.driving.target import Reply
from loadtest.swarm.result import lines_of, verdict_of
from loadtest.verdict.tally import Tally

OPTIONS = Namespace(max_sent_late=0.01, max_generator_cpu=0.9, objectives="", seconds=10.0)
SHORT = "process 2 of 2 sent 499 of the 500 requests that it owed"


def tally(requests: int, cpu_share: float = 0.2) -> Tally:
    made = Tally(0.025, cpu_share=cpu_share)
    for _ in range(requests):
        made.add(Reply(True, "full"), 0.004, 0.0)
    return made


@pytest.mark.parametrize(
    ("requests", "cpu_share", "faults", "word"),
    [
        (1000, 0.2, (), "pass"),
        (999, 0.2, (SHORT,), "invalid"),
        (1000, 0.95, (), "invalid"),
        (0, 0.2, (), "invalid"),
    ],
)
def test_one_request_too_few_makes_the_run_invalid(
    requests: int, cpu_share: float, faults: tuple[str, ...], word: str
) -> None:
    assert verdict_of(OPTIONS, tally(requests, cpu_share), faults).word == word


def test_the_lines_say_what_was_sent_and_what_is_missing() -> None:
    total = tally(500)
    lines = lines_of(OPTIONS, total, verdict_of(OPTIONS, total, (SHORT,)))
    assert lines[0].startswith("500 requests in 10 s, 50.0/s answered in time; full 100.00%")
    assert lines[-2] == SHORT
    assert lines[-1] == "verdict: invalid"
    nothing = tally(0)
    assert lines_of(OPTIONS, nothing, verdict_of(OPTIONS, nothing, ()))[-1] == "verdict: invalid"
