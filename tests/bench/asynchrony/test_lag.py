"""The lag is end to end: it begins where serving logs a row, and ends where stream and store have it."""

from pathlib import Path

import pytest

from bench.asynchrony import lag
from bench.asynchrony.feeder import Fed
from bench.asynchrony.teacher import publish
from bench.overload.plant import BenchError
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.data.annotated import StreamReader
from exfm.data.simulator import SCHEMA_FILE
from exfm.features.schema import Schema


def test_a_lag_spans_the_whole_way_of_every_row(tmp_path: Path) -> None:
    snapshots = publish(Schema.load(SCHEMA_FILE), tmp_path / "snapshots")
    load = lag.Load(rows=300, rate=200.0, seconds=0.5)
    said = lag.measure(tmp_path / "lag", snapshots, InlineWorkers(tmp_path / "snapshots"), 64, load)
    assert said["lag_rows"] == pytest.approx(100, abs=20)
    assert said["lag_window_s"] <= said["lag_p50_s"] <= said["lag_p99_s"] < 30
    reader = StreamReader(tmp_path / "lag" / "stream")
    rows = sum(len(part) for part in reader.read())
    assert rows >= said["lag_rows"]
    one_s = {commit.number: 1000 for commit in reader.commits()}
    with pytest.raises(BenchError, match=f"of {rows + 1} rows came through; the log dropped {{'queue_full': 1}}"):
        lag.lags(reader, one_s, Fed(10**15, rows + 1, {"queue_full": 1}))
    first_ms = min(int(part.examples.time_ms.min()) for part in reader.read())
    assert lag.lags(reader, one_s, Fed(first_ms - 1, 0, {})).size == 0
