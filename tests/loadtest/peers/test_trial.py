import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from loadtest.checking.record import Record
from loadtest.driving.search import NoCapacityError
from loadtest.driving.target import summed_up
from loadtest.peers import trial
from loadtest.peers.caller import Probability
from loadtest.peers.model import Model
from loadtest.peers.samples import draw_samples
from loadtest.peers.systems import Running
from loadtest.peers.trial import Bench, Trial, trial_of


def test_a_prior_in_time_is_answered_and_no_goodput_and_no_capacity() -> None:
    tiers = np.array(["full", "full", "prior", "trimmed", "shed"])
    record = Record(
        at_s=np.arange(5) / 10,
        latency_s=np.array([0.01, 0.03, 0.01, 0.01, 0.001]),
        lateness_s=np.zeros(5),
        ok=np.array([True, True, True, True, False]),
        tier=tiers,
        version=np.ones(5, np.int64),
        error=("", "", "", "", "full"),
    )
    made = trial_of(summed_up(record, 0.025, 0.5, 0.1, 0.5), 10.0, 0.025)
    assert made.goodput_rps == pytest.approx(4.0)  # one full and one trimmed in half a second
    assert made.full_goodput_rps == pytest.approx(2.0)
    assert made.answered_rps == pytest.approx(6.0)
    assert made.in_time_share == pytest.approx(0.2)
    assert made.errors == {"full": 1}
    assert made.wrong == 0


class Instant:
    """Answers right at once, for the first `calm_after` questions of its life with a prior."""

    asked = 0

    def __init__(self, shape: tuple[int, int], calm_after: int = 0) -> None:
        self.shape, self.calm_after = shape, calm_after

    async def ask(self, _: int, __: float) -> tuple[str, Probability]:
        Instant.asked += 1
        return "prior" if Instant.asked <= self.calm_after else "full", np.full(self.shape, 0.5, np.float32)

    async def close(self) -> None: ...


def test_a_drive_counts_the_schedule_only_and_not_the_warm_up(student: Model) -> None:
    samples = draw_samples(student, 4, 3, seed=0)
    running = Running(0, "", lambda _: Instant((4, student.tasks)))
    with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1) as bench:
        made = bench.trial(100.0, 0.3)
    assert 10 <= made.offered <= 60
    assert made.tiers == {"full": 1.0}
    assert made.goodput_rps == pytest.approx(made.offered / 0.3)


def test_it_has_settled_when_answers_in_time_follow_one_another(student: Model) -> None:
    Instant.asked = 0
    running = Running(0, "", lambda _: Instant((4, student.tasks), calm_after=3))
    with Bench(lambda: nullcontext(running), draw_samples(student, 4, 1, seed=0), student.tasks, 0.01, seed=1) as bench:
        bench.settle()
    assert Instant.asked == 3 + 20
    assert bench.restarts == 0


def test_what_does_not_settle_is_started_anew(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SETTLE_S", 0.1)
    Instant.asked = 0
    lives: list[str] = []

    @contextmanager
    def start() -> Iterator[Running]:
        lives.append("begins")
        yield Running(0, "", lambda _: Instant((4, student.tasks), calm_after=10**9))
        lives.append("ends")

    with Bench(start, draw_samples(student, 4, 1, seed=0), student.tasks, 0.01, seed=1) as bench:
        bench.settle()
        assert lives == ["begins", "ends", "begins"]
    assert bench.restarts == 1
    assert lives[-1] == "ends"


class Pausing:
    """Answers right after a pause."""

    def __init__(self, shape: tuple[int, int], pause_s: float) -> None:
        self.shape, self.pause_s = shape, pause_s

    async def ask(self, _: int, __: float) -> tuple[str, Probability]:
        await asyncio.sleep(self.pause_s)
        return "full", np.full(self.shape, 0.5, np.float32)

    async def close(self) -> None: ...


@pytest.mark.parametrize(("found_rps", "first_rps", "step"), [(0.0, 100.0, 1.5), (70.0, 70.0, 1.25)])
def test_a_search_begins_at_one_request_at_a_time_or_where_another_ended(
    student: Model, monkeypatch: pytest.MonkeyPatch, found_rps: float, first_rps: float, step: float
) -> None:
    running = Running(0, "", lambda _: Pausing((4, student.tasks), 0.01))
    begun: list[tuple[float, float]] = []

    def search(_: object, first_rps: float, *__: float, step: float, **___: object) -> float:
        begun.append((first_rps, step))
        return first_rps

    monkeypatch.setattr(trial, "find_capacity", search)
    with Bench(lambda: nullcontext(running), draw_samples(student, 4, 1, seed=0), student.tasks, 1.0, seed=1) as bench:
        bench.capacity(0.1, 0.1, found_rps)
    ((rate_rps, by),) = begun
    assert by == step
    assert first_rps / 3 <= rate_rps <= first_rps


class Mixing:
    """Answers a request right when it is the only one, with another's scores otherwise."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.waiting = shape, 0

    async def ask(self, index: int, _: float) -> tuple[str, Probability]:
        self.waiting += 1
        await asyncio.sleep(0.005)
        mixed, self.waiting = self.waiting > 1, self.waiting - 1
        return "full", np.full(self.shape, 0.9 if mixed else 0.1 * (index % 3), np.float32)

    async def close(self) -> None: ...


def test_answers_that_batching_mixes_up_are_wrong(student: Model) -> None:
    samples = draw_samples(student, 4, 3, seed=0)
    running = Running(0, "", lambda _: Mixing((4, student.tasks)))
    with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1) as bench:
        made = bench.trial(400.0, 0.2)
    assert made.tiers["wrong"] > 0.3
    assert made.wrong == pytest.approx(made.tiers["wrong"] * made.offered)
    assert made.errors.keys() == {"not the model's scores for this request"}


@pytest.mark.parametrize(("late_s", "sound"), [(0.004, True), (0.006, False)])
def test_late_means_for_the_peers_what_it_means_for_all(late_s: float, sound: bool) -> None:
    rows = 200
    record = Record(
        at_s=np.arange(rows) / rows,
        latency_s=np.full(rows, 0.01),
        lateness_s=np.where(np.arange(rows) < 0.4 * rows, late_s, 0.0),
        ok=np.ones(rows, bool),
        tier=np.full(rows, "full"),
        version=np.ones(rows, np.int64),
        error=("",) * rows,
    )
    assert trial_of(summed_up(record, 0.025, 1.0, 0.1, 1.0), 200.0, 0.025).sound is sound


def test_a_rate_that_the_generator_spoiled_is_driven_again(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = iter([True, False, True, True])

    def driven(rate_rps: float, seconds: float, _: int) -> Trial:
        bad = next(spoiled)
        return Trial(rate_rps, seconds, 100, 0, 0, 0, 0.5 if bad else 1.0, 1.0, 2.0, {}, {}, 0.1, 0.2, not bad)

    held: list[bool] = []

    def search(holds: Callable[[float, float], bool], *_: object, **__: object) -> float:
        held.extend(holds(rate, 0.1) for rate in (10.0, 20.0))
        return 1.0

    monkeypatch.setattr(trial, "find_capacity", search)
    running = Running(0, "", lambda _: Pausing((4, student.tasks), 0.0))
    with Bench(lambda: nullcontext(running), draw_samples(student, 4, 1, seed=0), student.tasks, 1.0, seed=1) as bench:
        monkeypatch.setattr(bench, "trial", driven)
        _, made = bench.capacity(0.1, 0.2, 5.0)
    assert held == [True, False]
    assert [each.sound for each in made] == [False, True, False, False]


def test_without_a_capacity_the_trials_tell_why(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(holds: Callable[[float, float], bool], *_: object, **__: object) -> float:
        assert not holds(1000.0, 0.1)
        raise NoCapacityError("none")

    monkeypatch.setattr(trial, "find_capacity", search)
    monkeypatch.setattr(trial, "SETTLE_S", 0.1)
    running = Running(0, "", lambda _: Pausing((4, student.tasks), 0.03))
    with Bench(lambda: nullcontext(running), draw_samples(student, 4, 1, seed=0), student.tasks, 0.01, seed=1) as bench:
        capacity_rps, made = bench.capacity(0.1, 0.2, 3.0)
    assert capacity_rps == 0.0
    assert made
    assert all(each.in_time_share == 0 for each in made)


def test_a_system_that_always_scores_another_model_is_always_wrong(student: Model) -> None:
    known: list[Probability | None] = [np.full((4, student.tasks), score, np.float32) for score in (0.5, 0.6, 0.5)]
    running = Running(0, "", lambda _: Instant((4, student.tasks)))
    Instant.asked = 0
    samples = draw_samples(student, 4, 3, seed=0)
    with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1, known=known) as bench:
        made = bench.trial(100.0, 0.3)
    assert made.wrong == len(range(1, made.offered, 3))


def test_what_no_one_has_answered_yet_is_asked_for_once_and_kept_for_the_next(student: Model) -> None:
    known: list[Probability | None] = [np.full((4, student.tasks), 0.5, np.float32), None]
    running = Running(0, "", lambda _: Instant((4, student.tasks)))
    Instant.asked = 0
    samples = draw_samples(student, 4, 2, seed=0)
    with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1, known=known) as bench:
        made = bench.trial(100.0, 0.1)
    assert made.wrong == 0
    np.testing.assert_array_equal(known[1], known[0])


def test_a_search_takes_the_same_tries_however_deep_a_system_falls(
    student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(0, "", lambda _: Instant((4, student.tasks)))

    def tries(share_past: float) -> list[tuple[float, float]]:
        def driven(rate_rps: float, seconds: float, _: int) -> Trial:
            share = 1.0 if rate_rps <= 100 else share_past
            return Trial(rate_rps, seconds, 100, 0, 0, 0, share, 1.0, 2.0, {}, {}, 0.1, 0.2, True)

        samples = draw_samples(student, 4, 1, seed=0)
        with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1) as bench:
            monkeypatch.setattr(bench, "trial", driven)
            monkeypatch.setattr(bench, "settle", lambda: None)
            _, made = bench.capacity(0.1, 0.2, 60.0)
        return [(trial.rate_rps, trial.seconds) for trial in made]

    assert tries(0.0) == tries(0.97)


def test_that_nothing_holds_is_known_before_long(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(0, "", lambda _: Instant((4, student.tasks)))

    def driven(rate_rps: float, seconds: float, _: int) -> Trial:
        return Trial(rate_rps, seconds, 100, 0, 0, 0, 0.9, 1.0, 2.0, {}, {}, 0.1, 0.2, True)

    samples = draw_samples(student, 4, 1, seed=0)
    with Bench(lambda: nullcontext(running), samples, student.tasks, 1.0, seed=1) as bench:
        monkeypatch.setattr(bench, "trial", driven)
        monkeypatch.setattr(bench, "settle", lambda: None)
        capacity_rps, made = bench.capacity(3.0, 8.0, 100.0)
    assert capacity_rps == 0.0
    assert made[-1].rate_rps == 2.0
    assert [each.seconds for each in made] == [max(3.0, min(300 / each.rate_rps, 30.0)) for each in made]
    assert sum(each.seconds for each in made) < 900
