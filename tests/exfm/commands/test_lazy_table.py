"""A teacher with a table on disk through the commands: a setting is all that it takes."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.asynchrony.traffic import impressions, outcomes
from exfm.augment.annotate.snapshots import Snapshots
from exfm.commands import annotate, train
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source, open_source
from exfm.distill import training
from exfm.distill.config import load_config
from exfm.distill.counters import counters
from exfm.distill.stream import encode
from exfm.events import impression, outcome
from exfm.events.sqlite import SqliteLog
from exfm.features.schema import Schema

ROWS = 400
SETTINGS = """
[teacher]
table = "lazy:{folder}/table?buckets={buckets}"
[teacher.model]
layers = 1
hidden = 16
embedding = 8
"""


@pytest.fixture
def source() -> Source:
    return Source("simulator", *simulate(0, Scale(rows=ROWS, days=2, users=60, ads=40)))


@pytest.fixture
def run(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """`exfm-train` over the log's first half, with so many buckets."""
    first = replace(source, examples=source.examples.slice(0, ROWS // 2))
    monkeypatch.setattr(train, "open_source", lambda _data, _seed: first)
    monkeypatch.setattr(training, "write_report", lambda *_: None)  # pictures take most of a small run's time
    settings = tmp_path / "own.toml"

    def command(buckets: int) -> int:
        settings.write_text(SETTINGS.format(folder=tmp_path, buckets=buckets), encoding="utf-8")
        return train.main(["--out", str(tmp_path / "run"), "--config", str(settings), "--json"])

    return command


def serve(source: Source, folder: Path) -> None:
    log, served = SqliteLog(folder / "log.sqlite"), impressions(source, source.examples)
    told = list(outcomes(source.examples, served))
    log.append(outcome.TOPIC, outcome.encode(told), len(told), os.urandom(16))
    log.append(impression.TOPIC, impression.encode(served), len(served), os.urandom(16))
    log.close()


def test_it_is_trained_published_and_annotates(run: Callable[[int], int], source: Source, tmp_path: Path) -> None:
    assert run(8_000_000_000) == 0
    assert not (tmp_path / "table").exists()
    common = ["--dir", str(tmp_path)]
    assert annotate.main(["publish", str(tmp_path / "run" / "teacher.pt"), "--name", "big", *common]) == 0
    serve(source, tmp_path)
    assert annotate.main(["run", *common, "--drain", "--workers", "local:0", "--keep-priority", "--idle-s", "0"]) == 0
    log, snapshot = open_source(tmp_path / "stream").examples, Snapshots(tmp_path / "snapshots").load("big")
    said = np.stack([log.annotations[task] for task in source.schema.tasks], 1)
    later = log.time_ms > snapshot.learned_until_ms
    assert 0 < later.sum() < len(log)
    assert np.isnan(said[~later]).all()

    def rows(schema: Schema) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        return np.concatenate(list(encode(log, schema).values()), 1)

    settings, narrow = load_config("simulator"), rows(source.schema)
    past = counters(
        log,
        source.schema,
        narrow,
        tasks=source.schema.tasks,
        maturity_s=settings.stream.maturity_s,
        options=settings.counters,
    )
    wide = rows(snapshot.table_schema)
    assert wide.max() > 8_000_000_000
    with torch.no_grad():
        expected = torch.sigmoid(snapshot.model(torch.from_numpy(wide), torch.from_numpy(past))).numpy()
    np.testing.assert_allclose(said[later], expected[later], atol=1e-5)


def test_a_table_larger_than_the_file_system_allows_fails_in_one_line(
    run: Callable[[int], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run((1 << 48) - 1) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "work.rows" in err
    assert json.dumps(err).count("\\n") <= 2
    assert not (tmp_path / "run").exists()
