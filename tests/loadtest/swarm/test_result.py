"""The verdict over all of locust's processes."""

from argparse import Namespace

import pytest

from loadtest.driving.target import Reply
from loadtest.swarm.result import lines_of, verdict_of
from loadtest.verdict.tally import Tally

OPTIONS = Namespace(max_sent_late=0.01, objectives="", seconds=10.0)


def tally(requests: int) -> Tally:
    made = Tally(0.025)
    for _ in range(requests):
        made.add(Reply(True, "full"), 0.004, 0.0)
    return made


@pytest.mark.parametrize(
    ("requests", "word"),
    [(1000, "pass"), (930, "pass"), (1070, "pass"), (500, "invalid"), (0, "invalid"), (1500, "invalid")],
)
def test_a_process_that_was_lost_or_came_late_makes_the_run_invalid(requests: int, word: str) -> None:
    assert verdict_of(OPTIONS, tally(requests), expected=1000.0).word == word


def test_the_lines_say_what_was_sent_and_what_is_missing() -> None:
    total = tally(500)
    lines = lines_of(OPTIONS, total, verdict_of(OPTIONS, total, expected=1000.0))
    assert lines[0].startswith("500 requests in 10 s, 50.0/s answered in time; full 100.00%")
    assert lines[-2] == "500 requests were sent of about 1,000: a process ended early or never began"
    assert lines[-1] == "verdict: invalid"
    nothing = tally(0)
    assert lines_of(OPTIONS, nothing, verdict_of(OPTIONS, nothing, 10.0))[-1] == "verdict: invalid"
