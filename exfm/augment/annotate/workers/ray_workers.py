"""The teacher on Ray: actors that hold it, on this machine or on a cluster's; dead ones start again."""

import logging
import os
import tempfile
import warnings
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from exfm.augment.annotate.forward import Annotations, line_of
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.inline import Models, refuse_shards
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, WorkersUnavailableError
from exfm.augment.annotate.workers.ray_place import RayPlace

log = logging.getLogger(__name__)

START_S, AGAIN_S = 60.0, 1.0
"""How long to wait for workers that start, and for those that didn't in that time."""
_DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)
_OPTIONS: dict[str, Any] = {
    "num_cpus": 1,
    "max_restarts": -1,
    "max_task_retries": 0,  # Ray would wait for the same actor; who submitted asks another one
    "scheduling_strategy": "SPREAD",
}
_KEPT = 2
"""Snapshots whose weights stay in Ray's object store: the current one and the last one, as in the workers."""


class _Actor:
    """The other side: a process with one thread, that yields to everybody else on its machine."""

    def __init__(self) -> None:
        yield_to_others(own_session=True)
        torch.set_num_threads(1)
        # A task's arrays lie in shared memory, read-only; the forward pass writes nothing.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        self._models = Models(self._fetch)
        self._weights: list[ray.ObjectRef[NDArray[np.uint8]]] = []

    @ray.method(max_task_retries=-1)
    def pid(self) -> int:
        """The first answer of an actor that starts or starts again."""
        return os.getpid()

    def annotate(self, task: Task, weights: "list[ray.ObjectRef[NDArray[np.uint8]]]") -> Annotations:
        """`weights`: one reference, in a list so that Ray brings the content only where it is asked for."""
        self._weights = weights
        return self._models.annotate(task)

    def _fetch(self, name: str) -> Snapshot:
        with tempfile.TemporaryDirectory() as folder:
            snapshots = Snapshots(Path(folder))
            ray.get(self._weights[0]).tofile(snapshots.path(name))
            return snapshots.load(name)


class _Seat:
    """A place for one actor.

    Attributes:
        hello: there as soon as the actor has started.
        tasks: that it was given, and that were not seen to be done.
        deaths: that were seen.
    """

    def __init__(self) -> None:
        self.tasks: list[Future[Annotations]] = []
        self.deaths = 0
        self._take()

    def look(self) -> None:
        """Forget what is done, and wait for a new start where a death is among it."""
        done = [each for each in self.tasks if each.done()]
        self.tasks = [each for each in self.tasks if each not in done]
        errors = [each.exception() for each in done]
        if any(isinstance(error, ActorDiedError) for error in errors):
            self.replace()
        elif any(isinstance(error, RayActorError) for error in errors):
            self.deaths += 1
            self.hello = self._greet()

    def is_well(self) -> bool:
        """Whether the actor, whose `hello` is there, could be made; if not, there is another one."""
        try:
            ray.get(self.hello)
        except RayError as error:
            log.warning("a worker does not start: %s", line_of(error))
            self.replace()
            return False
        return True

    def replace(self) -> None:
        """Another actor: Ray itself won't start this one again."""
        self.tasks.clear()
        self.deaths += 1
        self._take()

    def _take(self) -> None:
        self.actor: Any = ray.remote(_Actor).options(**_OPTIONS).remote()
        self.hello = self._greet()

    def _greet(self) -> "ray.ObjectRef[int]":
        greeting: ray.ObjectRef[int] = self.actor.pid.remote()
        return greeting


class RayWorkers:
    """N actors of one CPU each, spread over the machines; Ray restarts those that die, here or on another machine.

    As long as one of them lives, the work goes on. A snapshot's weights travel through Ray's object store, so the
    folder of snapshots need not be shared; the machines need this package. A process has one Ray at a time.

    Args:
        folder: of the snapshots, on this machine.
        place: which Ray, and how many workers.

    Raises:
        WorkersUnavailableError: it can't be reached, or none of the workers starts.
    """

    def __init__(self, folder: Path, place: RayPlace) -> None:
        self._snapshots, self._place = Snapshots(folder), place
        self._weights: dict[str, ray.ObjectRef[NDArray[np.uint8]]] = {}
        self._wait_s = START_S
        with ExitStack() as stack:
            stack.enter_context(place.connected())
            self._seats = [_Seat() for _ in range(place.count)]
            started = self._started(place.count)
            if len(started) < place.count:
                log.warning("%s: %d workers have started; the others wait for room", place, len(started))
            self._stack = stack.pop_all()

    @property
    def depth(self) -> int:
        return 2 * len(self._seats)

    @property
    def pids(self) -> list[int]:
        """The workers' process ids, each on its machine; waits for what they are doing."""
        return ray.get([seat.actor.pid.remote() for seat in self._seats], timeout=START_S)

    @property
    def restarts(self) -> int:
        """Of all workers, as far as their tasks noticed."""
        return sum(seat.deaths for seat in self._seats)

    def check(self, snapshot: Snapshot) -> None:
        if snapshot.on_disk:
            raise SnapshotError(f"snapshot {snapshot.name!r} has its table on disk, which Ray can't carry: use local:N")
        refuse_shards(snapshot)

    def submit(self, task: Task) -> "Future[Annotations]":
        outer: Future[Annotations] = Future()
        try:
            for each in self._seats:
                each.look()
            seat = min(self._started(1), key=lambda each: len(each.tasks))
            inner = seat.actor.annotate.remote(task, [self._weights_of(task.snapshot)]).future()
        except (RayError, SnapshotError, WorkersUnavailableError) as error:
            outer.set_exception(_translated(error))
            return outer
        seat.tasks.append(inner)
        inner.add_done_callback(lambda done: _hand_on(done, outer))
        return outer

    def close(self) -> None:
        self._stack.close()

    def _started(self, wanted: int) -> list[_Seat]:
        """Who has started; waits for so many, and fails if there is none."""
        hellos = [seat.hello for seat in self._seats]
        ready, _ = ray.wait(hellos, num_returns=len(hellos), timeout=0)
        if len(ready) < wanted:
            ready, _ = ray.wait(hellos, num_returns=wanted, timeout=self._wait_s)
        started = [seat for seat in self._seats if seat.hello in ready and seat.is_well()]
        waited_s, self._wait_s = self._wait_s, START_S if started else min(START_S, AGAIN_S)
        if not started:
            raise WorkersUnavailableError(f"{self._place}: no worker has started within {waited_s:g} s")
        return started

    def _weights_of(self, name: str) -> "ray.ObjectRef[NDArray[np.uint8]]":
        if name not in self._weights:
            content = np.fromfile(self._snapshots.file(name), np.uint8)
            while len(self._weights) >= _KEPT:
                del self._weights[next(iter(self._weights))]
            self._weights[name] = ray.put(content)
        return self._weights[name]


def open_ray(rest: str, folder: Path) -> RayWorkers:
    """The workers behind `ray:N` or `ray://host:port/N`; `UrlError` for another form."""
    return RayWorkers(folder, RayPlace.parse(rest))


def _hand_on(done: "Future[Annotations]", outer: "Future[Annotations]") -> None:
    error = done.exception()
    if error is None:
        outer.set_result(done.result())
    else:
        made = _translated(error)
        made.__cause__ = None if made is error else error
        outer.set_exception(made)


def _translated(error: BaseException) -> BaseException:
    """Ray's word for what happened in ours."""
    if isinstance(error, RayTaskError):
        return _translated(error.cause)
    if isinstance(error, _DEATHS):
        return WorkerDiedError(f"a worker ended: {line_of(error)}")
    return WorkersUnavailableError(line_of(error)) if isinstance(error, RayError) else error
