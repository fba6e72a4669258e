"""The course of a comparison, with systems and benches that take no time."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from loadtest.commands.peers import table
from loadtest.peers.compare import Comparison, Plan
from loadtest.peers.environments import Report
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.model import Model
from loadtest.peers.systems import Running
from loadtest.peers.trial import Start, Trial


class Fake:
    """A system that can be told to fail, and remembers in `course` when it ran."""

    def __init__(self, name: str, rps: float, model: Model, course: list[str], fails: str = "") -> None:
        self.name, self.rps, self.model, self.course, self.fails = name, rps, model, course, fails
        self.ours = name.startswith("exfm")
        self.starts = 0

    def prepare(self, _: Report) -> dict[str, str]:
        if self.fails == "prepare":
            raise PeerUnavailableError("not installable here: no wheel")
        return {"package": "1"}

    @contextmanager
    def running(self, _: Path) -> Iterator[Running]:
        self.starts += 1
        if self.fails == "start" and self.course:
            raise PeerUnavailableError("not ready")
        if self.fails == "first start" and self.starts == 1:
            raise PeerUnavailableError("not ready at first")
        if self.fails == "disk":
            raise OSError("no space left")
        self.course.append(self.name)
        yield Running(0, str(self.rps), lambda _: pytest.fail("nobody calls"))


class FakeBench:
    """Serves all that is offered up to the system's capacity, and nothing beyond twice that."""

    restarts = 0

    def __init__(self, start: Start, *_: Any, **__: Any) -> None:
        self.start = start
        self.versions = {"server": "2"}

    def __enter__(self) -> Self:
        with self.start() as running:
            self.rps = float(running.address)
        return self

    def __exit__(self, *_: object) -> None: ...

    def capacity(self, *_: float) -> tuple[float, list[Trial]]:
        return self.rps, [self.trial(self.rps or 2.0, 1.0)]

    def trial(self, rate_rps: float, seconds: float, _: int = 0) -> Trial:
        good = min(rate_rps, self.rps)
        return Trial(
            rate_rps, seconds, int(rate_rps), good, good, good, good / rate_rps, 1.0, 2.0, {}, {}, 0.1, 0.2, True
        )

    def settle(self) -> None:
        self.restarts += self.rps < 50


@pytest.fixture
def course() -> list[str]:
    return []


def compared(systems: list[Fake], tmp_path: Path, repeats: int = 2) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    plan = Plan(3.0, repeats, (1, 2, 4), 0, tmp_path)
    comparison = Comparison(systems, [], plan, said.append, FakeBench)  # type: ignore[arg-type]
    comparison.prepare()
    comparison.run()
    return comparison.result, said


def test_goodput_is_taken_at_multiples_of_the_best_peers_capacity(
    student: Model, course: list[str], tmp_path: Path
) -> None:
    made = [("exfm", 400.0), ("triton", 100.0), ("mosec", 150.0)]
    result, _ = compared([Fake(name, rps, student, course) for name, rps in made], tmp_path)
    assert result["best_peer"] == {"name": "mosec", "capacity_rps": 150.0, "ours": False}
    assert result["capacity_rps"] == {"exfm": [400.0] * 2, "triton": [100.0] * 2, "mosec": [150.0] * 2}
    assert result["goodput_rps"]["exfm"] == {"1x": [150.0] * 2, "2x": [300.0] * 2, "4x": [400.0] * 2}
    assert result["goodput_rps"]["triton"]["4x"] == [100.0] * 2
    assert result["versions"]["mosec"] == {"package": "1", "server": "2"}
    names = [name for name, _ in made]
    assert course == (names + names[::-1]) * 2


def test_a_system_that_fails_leaves_and_the_others_go_on(student: Model, course: list[str], tmp_path: Path) -> None:
    systems = [
        Fake("exfm", 200.0, student, course),
        Fake("bentoml", 50.0, student, course, fails="prepare"),
        Fake("ray", 50.0, student, course, fails="start"),
        Fake("litserve", 50.0, student, course, fails="disk"),
        Fake("mosec", 100.0, student, course),
    ]
    result, said = compared(systems, tmp_path)
    reasons = {"bentoml": "not installable here: no wheel", "ray": "not ready", "litserve": "no space left"}
    assert result["skipped"] == reasons
    assert set(result["goodput_rps"]) == {"exfm", "mosec"}
    assert any("bentoml is skipped" in text for text in said)


def test_a_system_without_any_capacity_counts_as_zero(student: Model, course: list[str], tmp_path: Path) -> None:
    result, _ = compared([Fake("exfm", 90.0, student, course), Fake("slow", 0.0, student, course)], tmp_path, 1)
    assert result["capacity_rps"] == {"exfm": [90.0], "slow": [0.0]}


def test_how_often_a_system_had_to_be_started_anew_is_told(student: Model, course: list[str], tmp_path: Path) -> None:
    result, said = compared([Fake("mosec", 40.0, student, course)], tmp_path)
    assert set(result["goodput_rps"]["mosec"]) == {"1x", "2x", "4x"}
    assert result["restarts"] == {"mosec": 6}
    assert sum("started anew 3 times" in text for text in said) == 2


def test_a_start_that_fails_once_is_tried_again(student: Model, course: list[str], tmp_path: Path) -> None:
    late = Fake("ray", 50.0, student, course, fails="first start")
    result, _ = compared([Fake("exfm", 90.0, student, course), late], tmp_path)
    assert result["skipped"] == {}
    assert late.starts == 5
    assert result["capacity_rps"]["ray"] == [50.0, 50.0]


def test_a_later_search_begins_where_the_earlier_one_ended(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    search = FakeBench.capacity

    def capacity(bench: FakeBench, *given: float) -> tuple[float, list[Trial]]:
        begun.append(given[-1])
        return search(bench)

    monkeypatch.setattr(FakeBench, "capacity", capacity)
    compared([Fake("mosec", 80.0, student, course)], tmp_path)
    assert begun == [0.0, 80.0]


def test_what_the_generator_spoiled_is_driven_again_and_told(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tries = FakeBench.trial, itertools.count()
    monkeypatch.setattr(
        FakeBench, "trial", lambda *given: replace(made(*given), sound=next(tries) != 1, full_goodput_rps=7.0)
    )
    result, _ = compared([Fake("mosec", 100.0, student, course)], tmp_path, 1)
    assert [trial["kind"] for trial in result["trials"]] == ["capacity", "spoiled", *["goodput"] * 3]
    assert result["generator"] == {"mosec": {"drives": 5, "spoiled": 1, "most_cpu_share": 0.2}}
    assert result["full_goodput_rps"] == {"mosec": {"1x": [7.0], "2x": [7.0], "4x": [7.0]}}
    text = table(result)
    assert "the generator was late or busy in 1 of 5 drives" in text
    assert "100 (7)" in text
    assert "at least that" not in text


@pytest.mark.parametrize("sound", [True, False])
def test_a_capacity_below_a_rate_that_the_generator_spoiled_is_at_least_that(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: bool
) -> None:
    def capacity(bench: FakeBench, *_: float) -> tuple[float, list[Trial]]:
        return bench.rps, [bench.trial(bench.rps, 1.0), replace(bench.trial(2 * bench.rps, 1.0), sound=sound)]

    monkeypatch.setattr(FakeBench, "capacity", capacity)
    result, _ = compared([Fake("mosec", 100.0, student, course)], tmp_path, 1)
    assert result["capacity_at_least"] == ([] if sound else ["mosec"])
    assert ("just above the capacity, too" in table(result)) is not sound
