"""The network between a frontend and a backend: delays with a tail, and what goes missing."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.simulation.backend import Job, SimulatedBackend
from serving.errors import BackendError, LateError, UnavailableError
from serving.inference.triton import LINGER_S

Act = Callable[[], None]


@dataclass(frozen=True)
class Cut:
    """A partition: nothing passes between two instants, in seconds from the first request.

    Attributes:
        breaks: whether the connection ends with it; otherwise what was on the way arrives late, in any order.
    """

    from_s: float
    until_s: float
    breaks: bool


@dataclass(frozen=True)
class Weather:
    """What a link is like.

    Attributes:
        delay_s: the least that a message takes, one way.
        tail: index of the Pareto factor on it; the smaller, the heavier.
        lost: share of the calls that are never answered, half of them because the answer is lost.
        reset: share of the calls that the connection fails, at once or after a while.
        cuts: partitions.
        cancels: whether the backend hears of cancellations; otherwise its queue's own timer must do.
        times_out: whether calls have a deadline of their own, as gRPC's have; else only the watchdog ends a lost one.
    """

    delay_s: float = 0.0
    tail: float = 2.0
    lost: float = 0.0
    reset: float = 0.0
    cuts: tuple[Cut, ...] = ()
    cancels: bool = True
    times_out: bool = False

    @classmethod
    def draw(cls, random: Random, seconds: float) -> "Weather":
        """Draw one for a world of that length; every third is calm."""
        if random.random() < 0.33:
            return cls(cancels=random.random() < 0.5)
        cuts = []
        if random.random() < 0.3:
            from_s = random.uniform(0.0, seconds)
            cuts.append(Cut(from_s, from_s + random.uniform(0.005, 0.08), random.random() < 0.5))
        return cls(
            delay_s=10 ** random.uniform(-5.0, -3.0),
            tail=random.uniform(1.1, 3.0),
            lost=random.choice((0.0, 0.0, 0.002, 0.02, 0.2)),
            reset=random.choice((0.0, 0.0, 0.002, 0.02)),
            cuts=tuple(cuts),
            cancels=random.random() < 0.5,
            times_out=random.random() < 0.5,
        )


class Network:
    """One frontend's connection to one backend.

    Messages are delayed each on its own, so answers overtake one another, more than one TCP connection would let them.
    Nothing is ever doubled: gRPC puts a call on one stream of one connection, and calls are not retried.
    """

    LONGEST_S = 0.5
    """A delay has an end, where the tail of a Pareto distribution may have none."""

    def __init__(
        self, backend: SimulatedBackend, weather: Weather, random: Random, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.faulty = False
        self._backend = backend
        self._weather = weather
        self._random = random
        self._loop = loop
        self._cut = False
        self._held: list[Act] = []
        self._open: dict[asyncio.Future[None], Job] = {}

    def begin(self) -> None:
        """From now on calls are lost and reset, and the partitions come in their time."""
        self.faulty = True
        for cut in self._weather.cuts:
            self._loop.call_later(cut.from_s, self._part)
            self._loop.call_later(cut.until_s, self._join, cut.breaks)

    def calm(self) -> None:
        """From now on nothing but delays."""
        self.faulty = False
        self._join(breaks=False)

    async def call(self, candidates: int, weight: float, until_s: float, *, bad: bool) -> None:
        """Return once the backend has served a call.

        Raises:
            BackendError: it, or the network, has failed the call.
        """
        answer: asyncio.Future[None] = self._loop.create_future()
        job = Job(candidates, weight, until_s, bad, partial(self._answer, answer))
        self._open[answer] = job
        timer = self._time(answer, until_s)
        try:
            if not (self.faulty and self._fails(answer, job)):
                self._carry(partial(self._backend.take, job))
            await answer
        except asyncio.CancelledError:
            if self._weather.cancels:
                self._carry(partial(self._backend.cancel, job))
            raise
        finally:
            del self._open[answer]
            if timer:
                timer.cancel()

    def _time(self, answer: "asyncio.Future[None]", until_s: float) -> asyncio.TimerHandle | None:
        if not self._weather.times_out or until_s == math.inf:
            return None
        at_s = until_s if self._weather.cancels else until_s + LINGER_S
        return self._loop.call_at(at_s, _settle, answer, LateError("deadline exceeded"))

    def _fails(self, answer: "asyncio.Future[None]", job: Job) -> bool:
        """Whether the call doesn't reach the backend, or its answer the frontend; what is left of it is under way."""
        drawn, weather = self._random.random(), self._weather
        if drawn < weather.lost:
            if drawn < weather.lost / 2:
                job.reply = _to_nobody
                self._carry(partial(self._backend.take, job))
            return True
        if drawn < weather.lost + weather.reset:
            after_s = self._random.choice((0.0, self._random.uniform(0.0, 0.05)))
            self._loop.call_later(after_s, _settle, answer, UnavailableError("connection reset"))
            return True
        return False

    def _answer(self, answer: "asyncio.Future[None]", error: BackendError | None) -> None:
        self._carry(partial(_settle, answer, error))

    def _carry(self, act: Act) -> None:
        """Let something happen at the other end."""
        if self._cut:
            self._held.append(act)
        elif self._weather.delay_s:
            delay_s = self._weather.delay_s * self._random.paretovariate(self._weather.tail)
            self._loop.call_later(min(delay_s, self.LONGEST_S), act)
        else:
            act()

    def _part(self) -> None:
        self._cut = self.faulty

    def _join(self, breaks: bool) -> None:
        held, self._held, was_cut, self._cut = self._held, [], self._cut, False
        if not was_cut:
            return
        if not breaks:
            for act in held:  # after as long again as TCP may wait before it sends anew
                self._loop.call_later(self._random.uniform(0.0, 0.05), self._carry, act)
            return
        for answer, job in self._open.items():
            _settle(answer, UnavailableError("connection reset"))
            self._backend.cancel(job)


def _settle(answer: "asyncio.Future[None]", error: BackendError | None) -> None:
    if answer.done():  # given up, or failed with the connection: gRPC drops what comes after
        return
    if error:
        answer.set_exception(error)
        answer.exception()  # read, for its caller may be gone in the same instant
    else:
        answer.set_result(None)


def _to_nobody(_: BackendError | None) -> None:
    pass
