"""What all workers promise, whoever they are; those in processes of their own yield to others and may be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from exfm.augment.annotate.forward import PIECE, Annotations
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.annotate.workers.opening import open_workers
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, Workers, WorkersUnavailableError
from exfm.augment.annotate.workers.ranks import group
from exfm.augment.annotate.workers.ranks.rank import Seat
from exfm.data.source import Source
from exfm.events.urls import UrlError

PROCESSES = ("local:1", "ranks:2", "ray:1")
in_processes = pytest.mark.parametrize("crew", PROCESSES, indirect=True)
on_ranks = pytest.mark.parametrize("crew", ["ranks:2"], indirect=True)
on_ray = pytest.mark.parametrize("crew", ["ray:1"], indirect=True)
LONG_S = 60.0


@dataclass
class Crew:
    """Workers, and what this process would answer in their place."""

    url: str
    workers: Any
    snapshots: Snapshots
    source: Source
    here: Workers

    @property
    def rounding(self) -> float:
        """Share of the codes that may differ, where rows go through the model in other batches than here."""
        return 0.001 if self.url.startswith("ranks") else 0.0

    def task(self, rows: int = 20, name: str = "first", seed: int = 0) -> Task:
        snapshot, draw = self.snapshots.load("first"), np.random.default_rng(seed)
        counts = np.array([feature.rows for feature in self.source.schema.ordered])
        table_rows = np.cumsum(counts) - counts + draw.integers(0, counts, (rows, len(counts)))
        return Task(name, table_rows, draw.normal(size=(rows, snapshot.counters)).astype(np.float32), "int4")

    def check(self, asked: Task, answer: "Future[Annotations]") -> None:
        """The answer is the one of this process."""
        there, here = answer.result(LONG_S), self.here.submit(asked).result()
        np.testing.assert_allclose(there.probability, here.probability, atol=1e-6)
        assert (there.codes != here.codes).mean() <= self.rounding


@pytest.fixture(scope="module", params=["local:0", *PROCESSES])
def crew(
    request: pytest.FixtureRequest,
    tiny: Callable[..., Source],
    publish_into: Callable[..., Snapshots],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crew]:
    if request.param.startswith("ray"):
        pytest.importorskip("ray", reason="ray is not installed: pip install 'exfm-serving[scale]'")
    if request.param.startswith("ranks") and find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    folder, source = tmp_path_factory.mktemp("crew"), tiny(10)
    snapshots = publish_into(folder, source)
    workers = open_workers(request.param, folder / "snapshots")
    yield Crew(request.param, workers, snapshots, source, InlineWorkers(folder / "snapshots"))
    workers.close()


def test_they_answer_as_this_process_does(crew: Crew) -> None:
    tasks = [crew.task(rows=30, seed=seed) for seed in range(2 * crew.workers.depth + 1)]
    for asked, answer in [(asked, crew.workers.submit(asked)) for asked in tasks]:
        crew.check(asked, answer)


@pytest.mark.parametrize("crew", ["local:1?give_way_ms=1"], indirect=True)
def test_those_that_give_way_answer_too_and_end(crew: Crew) -> None:
    (worker,) = _pids_after(crew, crew.task())
    crew.workers.close()
    assert not psutil.pid_exists(worker)


def _pids_after(crew: Crew, asked: Task) -> list[int]:
    crew.check(asked, crew.workers.submit(asked))
    pids: list[int] = crew.workers.pids
    return pids


def test_what_is_wrong_with_a_task_is_said_and_harms_no_other(crew: Crew) -> None:
    fine = crew.task()
    with pytest.raises(SnapshotError, match="'nobody': there is no"):
        crew.workers.submit(crew.task(name="nobody")).result(LONG_S)
    with pytest.raises(PoisonError, match="the teacher fails"):
        crew.workers.submit(replace(fine, rows=fine.rows + 10**9)).result(LONG_S)
    unclear = fine.counters.copy()
    unclear[3] = np.nan
    with pytest.raises(PoisonError, match="not finite"):
        crew.workers.submit(replace(fine, counters=unclear)).result(LONG_S)
    crew.check(fine, crew.workers.submit(fine))


def test_batches_of_any_size_are_answered_in_their_order(crew: Crew) -> None:
    """Fewer rows than workers, short last parts, more rows than one call of the model takes."""
    for rows in (1, 2, 3, 2 * PIECE + 3):
        asked = crew.task(rows=rows, seed=rows)
        crew.check(asked, crew.workers.submit(asked))


def test_an_empty_batch_has_an_empty_answer(crew: Crew) -> None:
    assert crew.workers.submit(crew.task(rows=0)).result(LONG_S).probability.shape == (0, 2)


def test_snapshots_come_and_go(crew: Crew, publish_into: Callable[..., Snapshots]) -> None:
    for seed, name in enumerate(("second", "third"), 1):
        publish_into(crew.snapshots.path("first").parents[1], crew.source, name, seed)
    for name in ("first", "second", "third", "first", "second"):
        asked = crew.task(name=name)
        crew.check(asked, crew.workers.submit(asked))


@in_processes
def test_processes_yield_to_everybody_else(crew: Crew) -> None:
    for pid in crew.workers.pids:
        assert psutil.Process(pid).nice() == 19
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert os.getsid(pid) == pid
    crew.check(crew.task(), crew.workers.submit(crew.task()))


@in_processes
def test_kill_9_in_the_middle_of_a_task_costs_no_answer(crew: Crew) -> None:
    crew.workers.submit(crew.task()).result(LONG_S)
    pid, *_ = crew.workers.pids
    os.kill(pid, signal.SIGSTOP)
    tasks = [crew.task(seed=seed) for seed in range(crew.workers.depth)]
    answers = [crew.workers.submit(asked) for asked in tasks]
    assert not any(answer.done() for answer in answers)
    os.kill(pid, signal.SIGKILL)
    for asked, answer in zip(tasks, answers, strict=True):
        crew.check(asked, _insisted(crew.workers, asked, answer))
    assert pid not in crew.workers.pids


def _insisted(workers: Workers, asked: Task, answer: "Future[Annotations]") -> "Future[Annotations]":
    """Its task goes to another worker once; the engine may have done so before."""
    return workers.submit(asked) if isinstance(answer.exception(LONG_S), WorkerDiedError) else answer


@on_ranks
def test_a_rank_that_hangs_ends_the_group_and_nothing_is_left(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, before = crew.task(), crew.workers.restarts
    crew.check(asked, crew.workers.submit(asked))
    pids = crew.workers.pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)  # as who stops the whole service may do: the annotator lets its batch land
    crew.check(asked, crew.workers.submit(asked))
    os.kill(pids[1], signal.SIGSTOP)
    monkeypatch.setattr(crew.workers._group, "_wait_s", 0.1)
    with pytest.raises(WorkerDiedError, match=r"ranks:2: no answer from rank .*1 of 2 within 1\.\d s"):
        crew.workers.submit(asked).result(LONG_S)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    monkeypatch.setattr(group, "START_S", 0.0)
    with pytest.raises(WorkersUnavailableError, match="ranks:2: does not start: no answer from rank 0, 1 of 2"):
        crew.workers.submit(asked).result(LONG_S)
    monkeypatch.undo()
    crew.check(asked, crew.workers.submit(asked))
    assert crew.workers.restarts == before + 2


@on_ranks
def test_a_rank_that_alone_cannot_read_keeps_nobody_waiting(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, start, before = crew.task(), group.RankGroup._start, crew.workers.restarts
    crew.workers._group.end()

    def with_a_blind_one(self: group.RankGroup, seat: Seat) -> None:
        start(self, replace(seat, snapshots=tmp_path) if seat.rank else seat)

    monkeypatch.setattr(group.RankGroup, "_start", with_a_blind_one)
    with pytest.raises(SnapshotError, match="'first': there is no"):
        crew.workers.submit(asked).result(20)
    monkeypatch.undo()
    assert crew.workers.restarts == before + 1
    crew.check(asked, crew.workers.submit(asked))


@on_ray
def test_an_actor_that_ray_gave_up_is_replaced(crew: Crew) -> None:
    import ray

    asked, before = crew.task(), crew.workers.restarts
    ray.kill(crew.workers._seats[0].actor)
    with pytest.raises(WorkerDiedError, match="a worker ended"):
        _until_it_fails(crew.workers, asked)
    crew.check(asked, crew.workers.submit(asked))
    assert crew.workers.restarts == before + 1


def _until_it_fails(workers: Workers, asked: Task) -> None:
    """Ray takes its time."""
    for _ in range(1000):
        workers.submit(asked).result(LONG_S)


@on_ray
def test_a_process_has_one_ray(crew: Crew) -> None:
    with pytest.raises(WorkersUnavailableError, match="has a Ray already"):
        open_workers("ray:1", Path())
    crew.check(crew.task(), crew.workers.submit(crew.task()))


@on_ray
def test_sigterm_stays_the_callers(crew: Crew) -> None:
    assert crew.workers.pids
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


CROWDED = """
from pathlib import Path
from exfm.augment.annotate.workers import ray_workers
from exfm.augment.annotate.workers.protocol import WorkersUnavailableError
ray_workers.START_S = 0.1
try:
    ray_workers.open_ray("//{address}/1", Path())
except WorkersUnavailableError as error:
    print(error)
"""


@on_ray
def test_a_cluster_without_room_is_named(crew: Crew) -> None:
    """The crew's own Ray, asked by another process."""
    import ray

    address = ray.get_runtime_context().gcs_address
    said = subprocess.check_output([sys.executable, "-c", CROWDED.format(address=address)], text=True)
    assert said == f"ray://{address}/1: no worker has started within 0.1 s\n"
    crew.check(crew.task(), crew.workers.submit(crew.task()))


@pytest.mark.parametrize(
    "url",
    [
        *("local:", "local:many", "local:-1", "kafka:1"),
        *("local:0?give_way_ms=5", "local:1?give_way_ms=0", "local:1?give_way_ms=", "local:1?way=5"),
        *("ray:", "ray:0", "ray:x", "ray://x", "ray://x:1", "ray://x/1"),
        *(
            "ranks:",
            "ranks:0",
            "ranks:x",
            "ranks:2?wait_s=",
            "ranks:2?wait_s=0",
            "ranks:2?wait_s=inf",
            "ranks:2?limit=1",
        ),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UrlError, match="workers"):
        open_workers(url, tmp_path)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ray_workers", "ray_place"):
        monkeypatch.delitem(sys.modules, f"exfm.augment.annotate.workers.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UrlError, match=r"ray: needs the Python package 'ray'; pip install 'exfm-serving\[scale\]'"):
        open_workers("ray:1", tmp_path)


def test_without_torchrec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(UrlError, match=r"ranks:2 needs torchrec; pip install .* --no-deps torchrec"):
        open_workers("ranks:2", tmp_path)


def test_none_means_this_process(tmp_path: Path) -> None:
    made: Any = open_workers("local:0", tmp_path)
    assert isinstance(made, InlineWorkers)
