"""What locust's options make, and which of them are refused, without locust."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.arrivals.schedule import NothingDueError
from loadtest.driving.rank_target import NotDescribedError
from loadtest.swarm.engine import STREAMS, Engine, make_engine
from loadtest.workload.asked import WorkloadError
from loadtest.workload.sizes import SizesError

OPTIONS = {
    "vertical": "selftest",
    "rate": 30.0,
    "seconds": 1.0,
    "shape": "ramp",
    "candidates": "20",
    "schema_file": "",
    "seed": 3,
    "timeout_ms": 0.0,
}


@pytest.fixture(scope="module")
def address(scripted: Any) -> Iterator[str]:
    with scripted() as address:
        yield address


def engine(address: str, process: int = 1, **more: Any) -> Engine:
    return make_engine(address, Namespace(**{**OPTIONS, **more}), streams=8, process=process, tell=lambda *_: None)


def test_the_server_says_what_the_options_leave_open(address: str) -> None:
    made = engine(address)
    assert (made.budget_s, made.timeout_s) == (2.0, 2.0)
    assert made.profile.name == "ramp"
    assert {len(asked) for asked in made.workload.requests} == {20}
    assert engine(address, timeout_ms=30.0).timeout_s == 0.03


@pytest.mark.parametrize(
    ("more", "refusal", "said"),
    [
        ({"vertical": "nope"}, NotDescribedError, "NOT_FOUND"),
        ({"candidates": "dlrm-v3"}, SizesError, "takes 1000"),
        ({"rate": 0.0}, ValueError, "profile"),
        ({"rate": 0.01}, NothingDueError, "no request is due"),
    ],
)
def test_bad_options_are_refused(address: str, more: dict[str, Any], refusal: type[Exception], said: str) -> None:
    with pytest.raises(refusal, match=said):
        engine(address, **more)


def test_without_a_server_to_ask_the_option_is_named() -> None:
    with pytest.raises(WorkloadError, match="--host is missing"):
        engine("")


def test_each_process_knows_how_many_requests_it_owes(address: str) -> None:
    owed = [engine(address, process=process).part.owed for process in range(40)]
    assert sum(owed) / 20 == pytest.approx(30.0 * 1.05, rel=0.2)  # two processes of four streams share the rate
    assert owed == [engine(address, process=process).part.owed for process in range(40)]
    assert len(set(owed)) > 1


def test_a_process_is_done_when_all_it_owes_has_ended_and_owes_no_more_than_its_streams(address: str) -> None:
    made = engine(address)
    for _ in range(STREAMS):
        assert not made.done
        made.stream()
    assert made.done
    made.stream()
    assert made.part.sent == made.part.owed > 0
    assert made.part.tally().tiers.keys() == {"full"}
    assert set(made.part.stages.ledger(2.0)) == {"score", "outside"}
