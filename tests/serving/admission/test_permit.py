"""A permit ends exactly once, however the work under it ends."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Generator

import pytest

from serving.admission.fixed import FixedLaw
from serving.admission.gate import Gate
from serving.admission.law import Law, Sample
from serving.admission.permit import Outcome, Permit
from serving.admission.priority import Priority
from serving.errors import BadScoresError, BusyError, LateError

LIVE = Priority.LIVE


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Listening(FixedLaw):
    """A fixed law that keeps what it was told."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.heard: list[Sample] = []

    def update(self, sample: Sample) -> float:
        self.heard.append(sample)
        return super().update(sample)


@pytest.fixture
def law() -> Listening:
    return Listening(0.1)


@pytest.fixture
def fake() -> Clock:
    return Clock()


@pytest.fixture
def gate(law: Law, fake: Clock) -> Gate:
    return Gate(law, clock=fake)


def entered(gate: Gate, cost_s: float = 0.01) -> Permit:
    permit = gate.try_enter(cost_s, LIVE)
    assert permit is not None
    return permit


def ends(gate: Gate) -> dict[Outcome, int]:
    return {outcome: count for (priority, outcome), count in gate.counts().items() if priority is LIVE and count}


def test_success_teaches_the_law_what_it_took_and_what_was_in_flight(gate: Gate, law: Listening, fake: Clock) -> None:
    first, second = entered(gate, 0.01), entered(gate, 0.02)
    second.succeed(0.005)
    fake.now_s += 0.25
    first.succeed()
    assert law.heard == [Sample(0.005, 0.02, 0.03), Sample(0.25, 0.01, 0.01)]
    assert gate.in_flight_s == 0


def test_a_drop_is_told_as_one_and_an_ignored_end_not_at_all(gate: Gate, law: Listening, fake: Clock) -> None:
    ignored, dropped = entered(gate), entered(gate)
    ignored.ignore()
    fake.now_s += 0.5
    dropped.drop()
    assert law.heard == [Sample(0.5, 0.01, 0.02, dropped=True)]
    assert ends(gate) == {Outcome.ENTERED: 2, Outcome.IGNORED: 1, Outcome.DROPPED: 1}


CLOSERS: list[Callable[[Permit], None]] = [Permit.succeed, Permit.ignore, Permit.drop]


@pytest.mark.parametrize("first", CLOSERS)
@pytest.mark.parametrize("later", CLOSERS)
def test_only_the_first_end_counts(
    gate: Gate, first: Callable[[Permit], None], later: Callable[[Permit], None]
) -> None:
    with entered(gate) as permit:
        first(permit)
        once = gate.counts()
        later(permit)
    del permit
    assert gate.counts() == once
    assert gate.in_flight_s == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.SUCCEEDED),
        (LateError("late"), Outcome.DROPPED),
        (BusyError("busy"), Outcome.DROPPED),
        (TimeoutError(), Outcome.DROPPED),
        (BadScoresError("bad"), Outcome.IGNORED),
        (RuntimeError(), Outcome.IGNORED),
        (asyncio.CancelledError(), Outcome.IGNORED),
        (KeyboardInterrupt(), Outcome.IGNORED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_leaving_the_block_ends_it(gate: Gate, error: BaseException | None, outcome: Outcome) -> None:
    def leave() -> None:
        with entered(gate):
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            leave()
    else:
        leave()
    assert ends(gate) == {Outcome.ENTERED: 1, outcome: 1}


def test_a_latency_that_is_none_is_refused_and_leaves_the_permit_open(gate: Gate) -> None:
    permit = entered(gate)
    with pytest.raises(ValueError, match="latency_s"):
        permit.succeed(float("nan"))
    assert permit.open
    permit.ignore()


def test_a_forgotten_permit_is_released_counted_and_logged_once(
    gate: Gate, law: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert entered(gate).open
            gc.collect()
        assert gate.in_flight_s == 0
    assert ends(gate) == {Outcome.ENTERED: 3, Outcome.IGNORED: 3, Outcome.LEAKED: 3}
    assert len(caplog.records) == 1
    assert law.heard == []


def test_a_permit_lost_in_a_cycle_is_found_by_the_collector(gate: Gate) -> None:
    knot: list[object] = [entered(gate)]
    knot.append(knot)
    del knot
    gc.collect()
    assert gate.in_flight_s == 0
    assert gate.in_flight(LIVE) == 0


class _Pause:
    """Hands control back once, as an await on a backend does."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def _work(gate: Gate) -> int:
    """Two requests, one inside the other, with awaits before, amid and after each."""
    await _Pause()
    with entered(gate):
        await _Pause()
        try:
            with entered(gate):
                await _Pause()
                await _Pause()
        finally:
            await _Pause()
        await _Pause()
    await _Pause()
    return 1


AWAITS = 7


def throw_until_it_ends(work: Coroutine[None, None, int], error: type[BaseException]) -> None:
    """A block that awaits while it is left takes more than one."""
    while True:
        work.throw(error())


def test_the_work_has_as_many_awaits_as_are_cancelled_below(gate: Gate) -> None:
    work = _work(gate)
    for _ in range(AWAITS):
        work.send(None)
    with pytest.raises(StopIteration):
        work.send(None)
    assert ends(gate) == {Outcome.ENTERED: 2, Outcome.SUCCEEDED: 2}


@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError, GeneratorExit])
@pytest.mark.parametrize("at", range(1, AWAITS + 1))
def test_nothing_leaks_wherever_the_work_is_cancelled(gate: Gate, at: int, error: type[BaseException]) -> None:
    work = _work(gate)
    for _ in range(at):
        work.send(None)
    with pytest.raises(error):
        throw_until_it_ends(work, error)
    counts = ends(gate)
    assert gate.in_flight_s == 0
    assert counts.get(Outcome.LEAKED, 0) == 0
    assert counts.get(Outcome.ENTERED, 0) == counts.get(Outcome.SUCCEEDED, 0) + counts.get(Outcome.IGNORED, 0)


@pytest.mark.parametrize("turns", range(AWAITS + 2))
async def test_nothing_leaks_from_a_cancelled_task(gate: Gate, turns: int) -> None:
    task = asyncio.create_task(_work(gate))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled() or task.result() == 1
    assert gate.in_flight_s == 0
    assert ends(gate).get(Outcome.LEAKED, 0) == 0
