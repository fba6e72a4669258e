"""A real annotator over Ray whose worker processes, or one of whose machines, are killed; the stream afterwards."""

import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.asynchrony.teacher import publish
from bench.asynchrony.throughput import MODEL, join
from exfm.augment.join import example
from exfm.augment.places import Places
from exfm.data.annotated import StreamReader
from exfm.data.commits import read_commits
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events.log import BEGIN

ROWS, BATCH = 40_000, 512
PATIENCE_S = 180.0
_WORKING = "ray::_Actor.annotate"
"""What Ray calls a process of `exfm.augment.annotate.workers.ray_workers` while it works."""


def annotated_once(folder: Path, *, kills: int, rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """What became of each example, with workers killed by `kill -9`, and with one of two machines gone.

    Args:
        folder: a place for both.
        kills: of workers; of machines one.
        rows: examples of each run.
    """
    return {
        "worker_killed": _worker_killed(filled(folder / "worker", rows), kills),
        "node_killed": _node_killed(filled(folder / "node", rows)),
    }


def fate(places: Places) -> dict[str, Any]:
    """The stream against the join's output, example by example."""
    output = places.open_output()
    asked: Counter[bytes] = Counter()
    for record in output.read(example.TOPIC, BEGIN, 1 << 40):
        asked.update(example.decode(record.payload).column("key").to_pylist())
    output.close()
    reader = StreamReader(places.stream)
    found: Counter[bytes] = Counter()
    silent = 0
    for part in reader.read():
        found.update(bytes(key) for key in part.key)
        said = np.stack([part.examples.annotations[task] for task in reader.form.schema.tasks])
        silent += int(np.isnan(said).any(0).sum())
    dead = sum(each.dead for each in reader.commits())
    return {
        "annotated_once": found == asked and max(asked.values(), default=0) == 1 and not silent and not dead,
        "examples": len(asked),
        "missing": len(asked.keys() - found.keys()),
        "doubled": sum(times - 1 for times in found.values()),
        "without_annotation": silent,
        "dead": dead,
    }


def filled(folder: Path, rows: int) -> Places:
    """A joiner's file and a teacher, ready to annotate."""
    places = Places.under(folder)
    source = Source("simulator", *simulate(0, Scale(rows=rows)))
    publish(source.schema, places.snapshots, **MODEL)
    join(source, places.join)
    return places


def _worker_killed(places: Places, kills: int) -> dict[str, Any]:
    with Annotator(places, "ray:2") as annotator:
        for _ in range(kills):
            annotator.await_commit()
            annotator.await_working(annotator.process.pid)[0].kill()
        return annotator.ended() | {"kills": kills}


def _node_killed(places: Places) -> dict[str, Any]:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.cluster_utils import Cluster  # noqa: PLC0415  # Ray reads these when it is imported, and only then

    settings = {"num_cpus": 1, "include_dashboard": False, "temp_dir": str(places.join.with_name("ray"))}
    cluster: Any = Cluster(initialize_head=True, head_node_args=settings)
    try:
        node = cluster.add_node(num_cpus=1)
        raylet = node.all_processes["raylet"][0].process.pid
        with Annotator(places, f"ray://{cluster.address}/2") as annotator:
            annotator.await_commit()
            working = annotator.await_working(raylet)
            cluster.remove_node(node, allow_graceful=False)
            for each in working:
                _kill(each)  # a machine takes its processes along
            return annotator.ended() | {"kills": 1}
    finally:
        cluster.shutdown()


class Annotator:
    """`exfm-annotate annotate --drain` as a process; killed at the end if it is still there."""

    def __init__(self, places: Places, workers: str) -> None:
        self._places = places
        self._said = places.join.with_name("annotator.log")
        where = ["--dir", str(places.join.parent), "--store", "none", "--batch", str(BATCH)]
        command = [sys.executable, "-m", "exfm.commands.annotate", "annotate", *where, "--workers", workers, "--drain"]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        self._commits = 0

    def __enter__(self) -> "Annotator":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def await_commit(self) -> None:
        """Until there is one more than at the last call."""
        self._await(lambda: len(read_commits(self._places.stream)[0]) > self._commits, "commits nothing")
        self._commits = len(read_commits(self._places.stream)[0])

    def await_working(self, root: int) -> list[psutil.Process]:
        """Workers below a process that have a task in hand; at least one."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = [each for each in psutil.Process(root).children(recursive=True) if _is_working(each)]
            return bool(found)

        self._await(look, "has no worker at work")
        return found

    def ended(self) -> dict[str, Any]:
        """Its stream, once it has drained; `TimeoutError` if it fails."""
        if self.process.wait(PATIENCE_S):
            raise TimeoutError(f"exfm-annotate failed: {self._said.read_text()[-500:]}")
        return {**fate(self._places), "batches_tried_again": self._said.read_text().count(": a worker ended")}

    def _await(self, condition: Callable[[], bool], complaint: str) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > until_s or self.process.poll() is not None:
                raise TimeoutError(f"exfm-annotate {complaint}: {self._said.read_text()[-500:]}")
            time.sleep(0.005)


def _is_working(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == [_WORKING]
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
