"""A process that ends by itself is noticed, whoever is killed, asked or told to end next."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.asynchrony.kill import kill_rounds
from bench.asynchrony.processes import CLEAN, Processes
from bench.overload.plant import BenchError
from exfm.augment.places import Places

STUBBORN = ["sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.02; done"]


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., Processes]:
    def start(**commands: list[str]) -> Processes:
        processes = Processes(Places.under(tmp_path), tmp_path / "acks", tmp_path, {}, seed=0, rps=1.0)
        processes.commands = commands
        for name in commands:
            processes.start(name)
        return processes

    return start


def test_one_that_was_killed_or_ends_when_told_to_is_as_it_should_be(started: Callable[..., Processes]) -> None:
    processes = started(one=["sleep", "60"], two=["sleep", "60"])
    processes.demand()
    processes.kill("one")
    processes.start("one")
    processes.demand()
    processes.end()
    processes.demand(CLEAN)


def test_a_process_that_died_by_itself_was_not_killed(started: Callable[..., Processes]) -> None:
    processes = started(one=["sleep", "60"], two=["sh", "-c", "echo it broke >&2; exit 3"])
    processes.running["two"].wait(10)
    died = r"two ended with code 3, see .*/two\.log: it broke"
    with pytest.raises(BenchError, match=died):
        processes.demand()
    with pytest.raises(BenchError, match=died):
        processes.kill("two")
    processes.end()


def test_an_end_that_is_not_clean_is_noticed(started: Callable[..., Processes], tmp_path: Path) -> None:
    processes = started(one=STUBBORN)
    until_s = time.monotonic() + 10
    while not (tmp_path / "one.log").read_text():
        assert time.monotonic() < until_s
        time.sleep(0.01)
    processes.end()
    with pytest.raises(BenchError, match="one ended with code 4"):
        processes.demand(CLEAN)


def test_the_bench_ends_with_a_process_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(BenchError, match=r"ended with code 1, see .*: it said nothing"):
        kill_rounds(tmp_path, 1)
