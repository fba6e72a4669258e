"""LoadGen's system under test is our server, called over gRPC: `python -m loadtest.referee.sut JOB.json`.

A process of its own, since LoadGen ends the process that it doesn't like. It schedules, times and judges; this file
only carries requests to the server and tells it when an answer is there. LoadGen knows latency and nothing else, so
what is no sound answer of the full model (refused, failed, wrong, or of a lesser tier) is told to it `PENALTY` bounds
late.
"""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen  # type: ignore[import-not-found,unused-ignore]

from loadtest.checking.outcomes import Outcome
from loadtest.driving.calls import target_by
from loadtest.driving.measure import quiet
from loadtest.driving.rank_target import RankTarget, describe
from loadtest.driving.target import Reply, own_cpu_s
from loadtest.referee.job import RESULT, Job, carried
from loadtest.workload.asked import Workload
from loadtest.workload.making import from_schema, schema_of
from loadtest.workload.sizes import sizes_of

PENALTY = 4.0
WARM_UP = 50
WARM_S = 1.0
SWITCH_S = 0.0005
"""LoadGen's thread and the event loop's share one interpreter; by default each may keep the other waiting for 5 ms, and
LoadGen's clock would take that for the server's."""


class Carrier:
    """Carries queries from LoadGen's threads to an event loop's thread, and answers back."""

    def __init__(self, job: Job, workload: Workload) -> None:
        self.counts: Counter[str] = Counter()
        self.lags_s: list[float] = []
        self._job, self._workload = job, workload
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._target = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen calls this from a thread of its own; it returns at once."""
        for sample in samples:
            self._loop.call_soon_threadsafe(self._begin, sample.id, sample.index, time.monotonic())

    def close(self) -> None:
        """Close connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._target.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> RankTarget:
        target = target_by(self._job.call, self._job.address, self._workload, self._job.connections)
        for index in range(WARM_UP):
            await target.send(index, WARM_S)
        return target

    def _begin(self, query: int, index: int, asked_s: float) -> None:
        self.lags_s.append(time.monotonic() - asked_s)
        task = self._loop.create_task(self._target.send(index, self._job.bound_s))
        task.add_done_callback(lambda done: self._end(query, done))

    def _end(self, query: int, done: "asyncio.Task[Reply]") -> None:
        tier = Outcome.FAILED if done.exception() else done.result().tier
        self.counts[tier] += 1
        delay_s = 0.0 if tier == Outcome.FULL else PENALTY * self._job.bound_s
        if delay_s:
            self._loop.call_later(delay_s, _complete, query)
        else:
            _complete(query)


def _complete(query: int) -> None:
    loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query, 0, 0)])


def settings_of(job: Job) -> Any:
    """LoadGen's Server scenario at the job's rate, seeds fixed."""
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = job.rate_rps
    settings.server_target_latency_ns = round(job.bound_s * 1e9)
    settings.server_target_latency_percentile = 0.99
    settings.min_duration_ms = round(job.seconds * 1e3)
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = (
        job.seed + n for n in (1, 2, 3)
    )
    return settings


def run(job: Job) -> None:
    """One run; LoadGen's files and ours lie in `job.out` afterwards."""
    out = Path(job.out)
    described = describe(job.address, job.vertical)
    drawn = from_schema(schema_of(described), job.vertical, sizes_of(job.candidates), seed=job.seed)
    workload = drawn.held_to(described)
    carrier = Carrier(job, workload)
    sut = loadgen.ConstructSUT(carrier.issue, lambda: None)
    qsl = loadgen.ConstructQSL(len(workload), len(workload), lambda _: None, lambda _: None)
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(out), False
    log = loadgen.LogSettings()
    log.log_output, log.enable_trace = output, False
    sys.setswitchinterval(SWITCH_S)
    start_s, cpu_s = time.monotonic(), own_cpu_s()
    with quiet():
        loadgen.StartTestWithLogSettings(sut, qsl, settings_of(job), log)
    cpu_share = (own_cpu_s() - cpu_s) / (time.monotonic() - start_s)
    loadgen.DestroyQSL(qsl)
    loadgen.DestroySUT(sut)
    carrier.close()
    made = carried(carrier.counts, carrier.lags_s, job.bound_s, cpu_share)
    (out / RESULT).write_text(json.dumps(asdict(made)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
