"""The course of a comparison, with systems and benches that take no time."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from loadtest.peers.compare import Comparison, Plan
from loadtest.peers.environments import Report
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.model import Model
from loadtest.peers.samples import draw_samples
from loadtest.peers.servers.scoring import Scoring
from loadtest.peers.stolen import Stolen
from loadtest.peers.systems import Running
from loadtest.peers.telling import lacking, table, without_median
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


def tried(rate_rps: float, share: float, sound: bool = True) -> Trial:
    good = share * rate_rps
    return Trial(rate_rps, 1.0, int(rate_rps), good, good, good, share, 1.0, 2.0, {}, {}, 0.1, 0.2, sound)


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
        return replace(tried(rate_rps, min(rate_rps, self.rps) / rate_rps), seconds=seconds)

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


def test_what_the_host_took_is_told_by_turn(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.01, 0.02, 0.3, None])
    monkeypatch.setattr(Stolen, "share", lambda _: next(shares))
    result, _ = compared([Fake("exfm", 90.0, student, course), Fake("ray", 50.0, student, course)], tmp_path, 1)
    assert result["stolen_share"] == {"exfm": [0.01, 0.3], "ray": [0.02, None]}
    assert "at most 30.0% (a turn of exfm): MORE THAN 2%" in table(result)


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
    late = tried(125.0, 0.9, sound=False)
    made = [late, tried(100.0, 1.0), late, tried(125.0, 0.9, sound)]
    monkeypatch.setattr(FakeBench, "capacity", lambda *_: (100.0, made))
    result, _ = compared([Fake("mosec", 100.0, student, course)], tmp_path)
    assert result["capacity_at_least"] == ([] if sound else ["mosec"])
    assert result["capacity_below_rps"] == {"mosec": [125.0 if sound else None] * 2}
    assert ("just above the capacity, too" in table(result)) is not sound


def test_a_repeat_that_the_generator_spoiled_twice_stands_in_no_median(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = FakeBench.trial
    drives = itertools.count()

    def trial(bench: FakeBench, rate_rps: float, seconds: float, salt: int = 0) -> Trial:
        # After two searches: never at 4x, and not in the first repeat's two drives at 1x.
        return replace(made(bench, rate_rps, seconds, salt), sound=rate_rps < 400 and next(drives) not in (2, 3))

    monkeypatch.setattr(FakeBench, "trial", trial)
    result, _ = compared([Fake("mosec", 100.0, student, course)], tmp_path)
    assert result["goodput_rps"]["mosec"] == {"1x": [100.0], "2x": [100.0, 100.0], "4x": []}
    assert result["full_goodput_rps"]["mosec"]["4x"] == []
    assert result["left_out"] == {"mosec": {"1x": 1, "4x": 2}}
    assert [trial["kind"] for trial in result["trials"]].count("left_out") == 3
    assert without_median(result) == ["mosec at 4x"]
    assert lacking(result) == [
        "mosec: 1 of 2 repeats at 1x left out of the median, as the generator was the bottleneck",
        "mosec: 2 of 2 repeats at 4x left out of the median, as the generator was the bottleneck: there is none",
        "the quality of the two models was not compared",
    ]
    lines = table(result).splitlines()
    (row,) = (line.split() for line in lines if line.startswith("mosec ") and "%" in line)
    assert row[:-1] == ["mosec", "100", "0%", "?,", "?", "100", "?", "100", "0%", "-", "0"]
    assert any("1 of 2 repeats at 1x left out" in line for line in lines)


def test_wrong_answers_are_told_of_each_system_however_few(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = FakeBench.trial
    monkeypatch.setattr(
        FakeBench, "trial", lambda bench, *given: replace(made(bench, *given), wrong=int(bench.rps == 150.0))
    )
    systems = [Fake("exfm", 400.0, student, course), Fake("mosec", 150.0, student, course)]
    result, _ = compared(systems, tmp_path, 1)
    assert result["wrong_answers"]["exfm"]["wrong"] == 0
    assert result["wrong_answers"]["mosec"] == {"wrong": 4, "offered": 150 * (1 + 1 + 2 + 4)}
    assert "mosec                   WRONG in 4 answers (0.0033 of all requests)" in table(result)
    result["wrong_answers"]["mosec"]["wrong"] = 0
    assert "none from any system" in table(result)


def test_systems_with_one_model_are_held_to_one_set_of_answers(
    student: Model, naive_model: Model, course: list[str], tmp_path: Path
) -> None:
    held: list[tuple[Any, ...]] = []

    def bench(*given: Any, **named: Any) -> FakeBench:
        held.append(tuple(named["known"]))
        return FakeBench(*given, **named)

    samples = draw_samples(student, 5, 2, seed=0)
    plan = Plan(3.0, 1, (1,), 0, tmp_path)
    systems = [Fake("exfm", 9.0, student, course), *(Fake(n, 5.0, naive_model, course) for n in ("mosec", "ray"))]
    Comparison(systems, samples, plan, lambda _: None, bench).run()  # type: ignore[arg-type]
    ours, mosec, ray = held[:3]
    assert all(one is other for one, other in zip(mosec, ray, strict=True))
    scoring = Scoring(naive_model.folder)
    for sample, known, other in zip(samples, mosec, ours, strict=True):
        expected = np.frombuffer(scoring.score([sample.body()])[0], "<f4").reshape(5, -1)
        np.testing.assert_array_equal(known, expected)
        assert np.abs(known - other).max() > 1e-3


@pytest.mark.parametrize("settled", [1, 3, 4, 11])
def test_a_run_that_was_stopped_goes_on_at_its_next_turn(
    student: Model, course: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: int
) -> None:
    """Goodput turns settle three times; so some are cut short in their middle."""

    def begun() -> Comparison:
        systems: list[Any] = [Fake("exfm", 200.0, student, course), Fake("mosec", 100.0, student, course)]
        return Comparison(systems, [], Plan(3.0, 2, (1, 2, 4), 0, tmp_path), lambda _: None, FakeBench)  # type: ignore[arg-type]

    def drive(comparison: Comparison) -> dict[str, Any]:
        course.clear()
        comparison.prepare()
        comparison.run()
        return comparison.result

    whole = drive(begun())
    turns, left = len(course), itertools.count(settled, -1)

    def settle(_: FakeBench) -> None:
        if not next(left):
            raise KeyboardInterrupt

    stopped = begun()
    with monkeypatch.context() as patch:
        patch.setattr(FakeBench, "settle", settle)
        with pytest.raises(KeyboardInterrupt):
            drive(stopped)
    again = begun()
    again.resume(json.loads(json.dumps(stopped.result)))
    # The host takes what it takes; only how many turns are told of can be the same.
    made = [each.pop("stolen_share") for each in (drive(again), whole)]
    assert again.result == whole
    assert [{name: len(shares) for name, shares in each.items()} for each in made] == [{"exfm": 4, "mosec": 4}] * 2
    assert len(course) == turns - (4 + settled // 3)


def test_a_run_that_was_stopped_before_any_multiple_goes_on_with_the_capacities(
    student: Model, course: list[str], tmp_path: Path
) -> None:
    def begun() -> Comparison:
        systems: list[Any] = [Fake("exfm", 200.0, student, course), Fake("ray", 50.0, student, course, "prepare")]
        return Comparison(systems, [], Plan(3.0, 2, (1,), 0, tmp_path), lambda _: None, FakeBench)  # type: ignore[arg-type]

    def stop() -> None:
        raise KeyboardInterrupt

    stopped = begun()
    stopped.prepare()
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop)
    again = begun()
    again.resume(stopped.result)
    again.prepare()
    again.run()
    assert again.result["capacity_rps"] == {"exfm": [200.0, 200.0]}
    assert again.result["skipped"] == {"ray": "not installable here: no wheel"}
    assert course == ["exfm"] * 4
