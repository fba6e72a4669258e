"""A log as a recording: real instants, users, contexts and shown ads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exfm.augment.stream.writer import StreamWriter
from exfm.data.annotated import StreamForm
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.features.signature import blocks_of
from loadtest.commands.main import main
from loadtest.selftest.server import SCHEMA
from loadtest.workload.asked import WorkloadError
from loadtest.workload.logged import Part, from_log
from loadtest.workload.sizes import fixed
from serving.rpc.pb import ranking_pb2 as pb


@pytest.fixture(scope="module")
def source() -> Source:
    return Source("simulator", *simulate(0, Scale(rows=2000, users=100, ads=60)))


def test_each_impression_is_asked_for_at_its_instant_for_its_user_with_its_ad(source: Source) -> None:
    vertical, rows = source.schema.verticals[0], source.examples
    own = source.schema.for_vertical(vertical.name)
    part = Part(start_s=3600.0, seconds=7200.0)
    at_s, made = from_log(source, source.schema, vertical.name, fixed(20), part=part, seed=3)
    mine = rows.project(source.schema, own)
    place = {(int(time), int(ad)): row for row, (time, ad) in enumerate(zip(rows.time_ms, rows.ad, strict=True))}
    assert len(at_s) == len(made) > 5
    assert (np.diff(at_s) >= 0).all()
    assert 0 <= at_s[0] <= at_s[-1] < 7200
    for offset_s, asked in zip(at_s, made.requests, strict=True):
        request = pb.RankRequest.FromString(asked.message)
        time_ms = round(rows.time_ms[0] + (3600 + offset_s) * 1e3)
        (row,) = {place[time_ms, ad] for ad in request.ad_ids if (time_ms, ad) in place}
        assert not np.isnan(rows.labels[vertical.tasks[0]][row])
        assert request.user.ids == mine.blocks["user_ids"][row].astype("<i8").tobytes()
        assert request.ad_ids[0] == rows.ad[row]
        first = np.frombuffer(request.ads.ids, "<i8").reshape(20, -1)[0]
        assert first.tolist() == mine.blocks["ad_ids"][row].tolist()
        assert len(first) == blocks_of(own, "ad")[0].width
    again = from_log(source, source.schema, vertical.name, fixed(20), part=part, seed=3)[1]
    assert again.digest == made.digest


@pytest.mark.parametrize("part", [Part(start_s=1e9), Part(seconds=1e-9, start_s=1e-6)])
def test_a_part_without_impressions_is_refused(source: Source, part: Part) -> None:
    with pytest.raises(WorkloadError, match="holds 0 requests"):
        from_log(source, source.schema, source.schema.verticals[0].name, fixed(20), part=part, seed=0)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """An example stream of 30 impressions, 20 ms apart, two for one request."""
    count = 30
    time_ms = 1_700_000_000_000 + 20 * np.repeat(np.arange(count // 2), 2)
    user = np.repeat(np.arange(count // 2), 2)
    ad = np.arange(count)
    columns: dict[str, Any] = {
        "key": [index.to_bytes(16, "little") for index in range(count)],
        "time_ms": time_ms,
        "user": user,
        "ad": ad,
        "bid": np.ones(count, np.float32),
        "vertical": ["selftest"] * count,
        "tier": ["full"] * count,
        "version": np.ones(count, np.int64),
        "snapshot": [""] * count,
        "space": np.zeros(count, np.int64),
        "z": [b""] * count,
        "history": [b""] * count,
        "f.user": user,
        "f.ad": ad,
        **{f"{kind}.click": np.zeros(count, np.float32) for kind in ("y", "delay", "a")},
    }
    writer = StreamWriter(tmp_path / "stream", StreamForm(SCHEMA, 0, "int8"))
    writer.append(pa.table(columns), count, snapshot="none")
    writer.close()
    return tmp_path / "stream"


def test_a_stream_is_replayed(stream: Path, scripted: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lenient = ("--max-sent-late", "1", "--max-generator-cpu", "1")
    with scripted() as address:
        given = ["replay", str(stream), "--target", address, "--out", str(tmp_path), *lenient]
        assert main([*given, "--vertical", "selftest", "--candidates", "9", "--speed", "2", "--json"]) == 0
        made = json.loads(capfd.readouterr().out)
        assert main(given) == 2
        assert "needs --vertical" in capfd.readouterr().err
    assert made["figures"]["offered"] == 15
    assert made["seconds"] == pytest.approx(0.14)
    assert made["conditions"]["requests_of"] == "log selftest, 30 impressions"
