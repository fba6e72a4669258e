"""The lag is end to end: it begins where serving is to log a row, and ends where stream and store have it."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.asynchrony import feeder, lag, throughput
from bench.asynchrony.feeder import Fed, Traffic, feed
from bench.asynchrony.teacher import publish
from bench.overload.plant import BenchError
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.data.annotated import StreamReader
from exfm.data.simulator import SCHEMA_FILE
from exfm.events.impression import Impression
from exfm.events.memory import MemoryLog
from exfm.features.schema import Schema


def test_a_lag_spans_the_whole_way_of_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = publish(Schema.load(SCHEMA_FILE), tmp_path / "snapshots")
    load = lag.Load(rows=300, rate=200.0, seconds=0.5)
    with monkeypatch.context() as loose, lag.feeding() as what:
        loose.setattr(lag, "LEAST_SHARE", 0.0)  # a machine that does other things, too
        said = lag.measure(tmp_path / "lag", snapshots, InlineWorkers(tmp_path / "snapshots"), 64, load, feeder=what)
    assert said["lag_rows"] == 100
    assert 0 < said["lag_at_examples_per_s"] <= 200
    assert said["lag_window_s"] <= said["lag_p50_s"] <= said["lag_p99_s"] < 30
    reader = StreamReader(tmp_path / "lag" / "stream")
    rows = sum(len(part) for part in reader.read())
    assert rows >= said["lag_rows"]
    one_s = {commit.number: 1000 for commit in reader.commits()}
    with pytest.raises(BenchError, match=f"of {rows + 1} rows came through; the log dropped {{'queue_full': 1}}"):
        lag.lags(reader, one_s, Fed(10**15, rows + 1, 190.0, {"queue_full": 1}), 200.0)
    with pytest.raises(BenchError, match=r"189\.9 of 200\.0 rows a second were fed"):
        lag.lags(reader, one_s, Fed(10**15, rows, 189.9, {}), 200.0)
    first_ms = min(int(part.examples.time_ms.min()) for part in reader.read())
    assert lag.lags(reader, one_s, Fed(first_ms - 1, 0, 200.0, {}), 200.0).size == 0


class _Stalled:
    """A log that takes its time."""

    def __init__(self) -> None:
        self.times_ms: list[int] = []

    def offer(self, rows: list[Impression]) -> None:
        self.times_ms += [row.time_ms for row in rows]
        time.sleep(0.2)


def test_rows_are_of_the_time_at_which_they_were_due_and_a_slow_feeder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "TAIL_S", 0.05)
    serving: Any = _Stalled()
    until_ms, counted, rate = feed(MemoryLog(), serving, Traffic(300), 200.0, 0.25)
    began_ms = until_ms - 250
    assert serving.times_ms == [began_ms + 5 * number for number in range(1, 61)]
    assert counted == 50
    assert rate < lag.LEAST_SHARE * 200


def test_what_feeds_the_log_began_before_its_parent_yielded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there: list[int] = []

    def yielded() -> None:
        there.extend(each.pid for each in psutil.Process().children() if "bench.asynchrony.feeder" in each.cmdline())

    monkeypatch.setattr(throughput, "yield_to_others", yielded)
    monkeypatch.setattr(throughput, "_measured", lambda *asked: {"feeder": asked[-1].pid})
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    assert there == []
    assert [throughput.measure_yielding(tmp_path, 1, 1, 1.0)["feeder"]] == there
