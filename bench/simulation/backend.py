"""A backend in virtual time: a few instances behind one queue, with the faults that real ones have."""

from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from serving.errors import BackendError, BadScoresError, BusyError, UnavailableError


class Health(Enum):
    """What the backend is up to."""

    WELL = "well"
    SLOW = "slow"
    HUNG = "hung"
    DEAD = "dead"


@dataclass(frozen=True)
class Speed:
    """How long a call takes, and how many run at once.

    Attributes:
        base_s, per_candidate_s: the median service time is base_s + n * per_candidate_s.
        sigma: of its log-normal factor.
        instances: calls that are served at once, whosever they are.
        queue: calls that may wait; more are refused.
        slow: factor while slow.
    """

    base_s: float
    per_candidate_s: float
    sigma: float
    instances: int
    queue: int
    slow: float = 5.0


@dataclass(eq=False, slots=True)
class Job:
    """A call as the backend has it.

    Attributes:
        candidates: of all its requests.
        weight: of the model; the service time is in proportion. 0: a question that needs no instance.
        until_s: the queue throws out what hasn't begun by then.
        bad: whether the model refuses it.
        reply: told once of its end; None: it was served.
    """

    candidates: int
    weight: float
    until_s: float
    bad: bool
    reply: Callable[[BackendError | None], None]
    timer: TimerHandle | None = None


class SimulatedBackend:
    """Takes calls in order of arrival. A cancelled call that is being served goes on occupying its instance, as in
    Triton; one that waits leaves the queue. While hung, nothing starts, ends, is refused or cancelled: whatever comes
    waits at the socket. Dying fails all that is inside, and what comes next, until it is well again.
    """

    def __init__(self, speed: Speed, random: Random, loop: AbstractEventLoop) -> None:
        self.health = Health.WELL
        self.speed = speed
        self._random = random
        self._loop = loop
        self._inside: dict[Job, None] = {}
        self._waiting: deque[Job] = deque()
        self._held: list[tuple[Callable[[Job], None], Job]] = []
        self.busy = 0

    def become(self, health: Health) -> None:
        """Change health."""
        self.health = health
        if health is Health.DEAD:
            self._die()
        elif health is not Health.HUNG:
            held, self._held = self._held, []
            for what, job in held:
                if job in self._inside:
                    what(job)

    def take(self, job: Job) -> None:
        """A call arrives."""
        if self.health is Health.DEAD:
            job.reply(UnavailableError("the backend is dead"))
            return
        self._inside[job] = None
        self._unless_hung(self._enter, job)

    def cancel(self, job: Job) -> None:
        """Its caller has given it up; nothing happens to one that isn't here any more, or not yet."""
        if job in self._inside:
            self._unless_hung(self._forget, job)

    def _unless_hung(self, what: Callable[[Job], None], job: Job) -> None:
        if self.health is Health.HUNG:
            self._held.append((what, job))
        elif job in self._inside:
            what(job)

    def _die(self) -> None:
        inside, self._inside, self.busy = self._inside, {}, 0
        self._waiting.clear()
        self._held.clear()
        for job in inside:
            if job.timer:
                job.timer.cancel()
            job.reply(UnavailableError("the backend died"))

    def _enter(self, job: Job) -> None:
        if job.bad:
            self._end(job, BadScoresError("the model refuses it"))
        elif not job.weight:
            self._end(job, None)
        elif self.busy < self.speed.instances:
            self.busy += 1
            self._serve(job)
        elif len(self._waiting) < self.speed.queue:
            self._waiting.append(job)
        else:
            self._end(job, BusyError("the queue is full"))

    def _forget(self, job: Job) -> None:
        if job.timer is None:
            self._waiting.remove(job)
            del self._inside[job]

    def _serve(self, job: Job) -> None:
        speed = self.speed
        median_s = (speed.base_s + job.candidates * speed.per_candidate_s) * job.weight
        factor = speed.slow if self.health is Health.SLOW else 1.0
        took_s = median_s * factor * self._random.lognormvariate(0.0, speed.sigma)
        job.timer = self._loop.call_later(took_s, self._unless_hung, self._served, job)

    def _served(self, job: Job) -> None:
        self._next()
        self._end(job, None)

    def _next(self) -> None:
        """Pass the instance on to the first that waits and has time left."""
        while self._waiting:
            job = self._waiting.popleft()
            if job.until_s >= self._loop.time():
                self._serve(job)
                return
            self._end(job, BusyError("its time ran out in the queue"))
        self.busy -= 1

    def _end(self, job: Job, error: BackendError | None) -> None:
        del self._inside[job]
        job.reply(error)
