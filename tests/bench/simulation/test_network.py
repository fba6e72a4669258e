"""The simulated network and the backend behind it: each fault does what its name says, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from bench.simulation.backend import Health, SimulatedBackend, Speed
from bench.simulation.network import Cut, Network, Weather
from bench.simulation.virtual import VirtualLoop, run
from serving.errors import BackendError, BadScoresError, BusyError, LateError, UnavailableError

SPEED = Speed(base_s=0.010, per_candidate_s=0.0, sigma=0.0, instances=1, queue=2)
End = tuple[float, str]
Play = Callable[[Network, SimulatedBackend], Awaitable[list[End]]]


def played(weather: Weather, play: Play) -> list[End]:
    """What came of the calls, and when, in milliseconds."""
    loop, random = VirtualLoop(), Random(1)
    backend = SimulatedBackend(SPEED, random, loop)
    network = Network(backend, weather, random, loop)

    async def work() -> list[End]:
        network.begin()
        return await play(network, backend)

    return [(round(1e3 * at_s, 3), end) for at_s, end in run(work(), loop)]


async def ended(network: Network, until_s: float = 9.0, *, patience_s: float = 1.0, bad: bool = False) -> End:
    """One call's end, and when it came."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience_s):
            await network.call(10, 1.0, until_s, bad=bad)
    except TimeoutError:
        return loop.time(), "no answer"
    except BackendError as error:
        return loop.time(), type(error).__name__
    return loop.time(), "served"


def several(number: int, until_s: float = 9.0, patience_s: float = 1.0) -> Play:
    async def play(network: Network, _: SimulatedBackend) -> list[End]:
        return await asyncio.gather(*(ended(network, until_s, patience_s=patience_s) for _ in range(number)))

    return play


def test_a_calm_network_adds_nothing_and_a_full_queue_refuses() -> None:
    refused = BusyError.__name__
    assert played(Weather(), several(4)) == [(10, "served"), (20, "served"), (30, "served"), (0, refused)]


def test_a_lost_call_is_never_answered_whether_it_got_there_or_not() -> None:
    ends = played(Weather(lost=1.0), several(3, patience_s=0.5))
    assert ends == [(500, "no answer")] * 3


@pytest.mark.parametrize(("cancels", "at_ms"), [(True, 50), (False, 1050)])
def test_a_lost_call_that_has_a_deadline_ends_with_it_and_later_where_calls_may_not_be_cancelled(
    cancels: bool, at_ms: float
) -> None:
    weather = Weather(lost=1.0, cancels=cancels, times_out=True)
    assert played(weather, several(1, until_s=0.050, patience_s=2.0)) == [(at_ms, LateError.__name__)]


def test_a_reset_connection_fails_the_call_at_once_or_after_a_while() -> None:
    ends = played(Weather(reset=1.0), several(20))
    assert {end for _, end in ends} == {UnavailableError.__name__}
    assert min(ends)[0] == 0 < max(ends)[0] <= 50


def test_delays_have_a_tail_and_let_answers_overtake_one_another() -> None:
    async def play(network: Network, _: SimulatedBackend) -> list[End]:
        calls = []
        for _number in range(300):
            calls.append(asyncio.create_task(ended(network, patience_s=5.0)))
            await asyncio.sleep(0.020)
        return await asyncio.gather(*calls)

    ends = played(Weather(delay_s=0.004, tail=1.1), play)
    ended_ms = [at_ms for at_ms, end in ends if end == "served"]
    assert len(ended_ms) > 250
    assert ended_ms != sorted(ended_ms)


def test_a_partition_delivers_late_what_was_on_the_way() -> None:
    weather = Weather(cuts=(Cut(0.005, 0.100, breaks=False),))
    ((at_ms, end),) = played(weather, several(1))
    assert (100 <= at_ms <= 150, end) == (True, "served")


def test_a_connection_that_breaks_with_a_partition_fails_what_was_on_the_way() -> None:
    weather = Weather(cuts=(Cut(0.005, 0.100, breaks=True),))
    assert played(weather, several(2)) == [(100, UnavailableError.__name__)] * 2


def test_calm_ends_every_fault() -> None:
    async def play(network: Network, _: SimulatedBackend) -> list[End]:
        network.calm()
        return [await ended(network)]

    weather = Weather(lost=0.5, reset=0.5, cuts=(Cut(0.001, 5.0, breaks=True),))
    assert played(weather, play) == [(10, "served")]


@pytest.mark.parametrize(("cancels", "second"), [(True, 20.0), (False, 30.0)])
def test_a_call_that_is_given_up_leaves_the_queue_only_where_cancellations_are_heard(
    cancels: bool, second: float
) -> None:
    async def play(network: Network, _: SimulatedBackend) -> list[End]:
        served = asyncio.create_task(ended(network))
        await asyncio.sleep(0)
        given_up = asyncio.create_task(ended(network, patience_s=0.001))
        await asyncio.sleep(0)
        return list(await asyncio.gather(served, given_up, ended(network)))

    ends = played(Weather(cancels=cancels), play)
    assert ends == [(10, "served"), (1, "no answer"), (second, "served")]


def test_the_queue_throws_out_whose_time_has_run_out() -> None:
    ends = played(Weather(cancels=False), several(3, until_s=0.015))
    assert ends == [(10, "served"), (20, "served"), (20, BusyError.__name__)]


def test_a_hung_backend_answers_nobody_and_goes_on_where_it_was() -> None:
    async def play(network: Network, backend: SimulatedBackend) -> list[End]:
        asyncio.get_running_loop().call_later(0.005, backend.become, Health.HUNG)
        asyncio.get_running_loop().call_later(0.500, backend.become, Health.WELL)
        return list(await asyncio.gather(ended(network), ended(network), ended(network, patience_s=0.2)))

    assert played(Weather(), play) == [(500, "served"), (510, "served"), (200, "no answer")]


def test_a_dying_backend_fails_what_is_inside_and_what_comes_until_it_is_back() -> None:
    async def play(network: Network, backend: SimulatedBackend) -> list[End]:
        asyncio.get_running_loop().call_later(0.005, backend.become, Health.DEAD)
        asyncio.get_running_loop().call_later(0.100, backend.become, Health.WELL)
        ends = list(await asyncio.gather(ended(network), ended(network)))
        ends.append(await ended(network))
        await asyncio.sleep(0.095)
        return [*ends, await ended(network)]

    gone = UnavailableError.__name__
    assert played(Weather(), play) == [(5, gone), (5, gone), (5, gone), (110, "served")]


def test_a_refused_request_takes_no_instance() -> None:
    async def play(network: Network, _: SimulatedBackend) -> list[End]:
        return [await ended(network, bad=True), await ended(network)]

    assert played(Weather(), play) == [(0, BadScoresError.__name__), (10, "served")]
