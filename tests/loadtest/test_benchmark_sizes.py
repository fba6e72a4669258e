"""The sizes of MLPerf's benchmarks reach a real server with students of the schemas that the repository ships."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exfm.data import kuairand, simulator
from exfm.features.schema import Schema
from exporter.export import export
from loadtest.commands.main import main
from loadtest.driving.server_process import running
from loadtest.workload.recording import read_recording
from loadtest.workload.sizes import sizes_of

BUDGET_MS = 2000.0
"""Wide enough for machines that have much else to do; the largest sizes are as shipped."""
SERVED = {"feed_click": kuairand.SCHEMA_FILE, "shop_click": simulator.SCHEMA_FILE}
LOAD = ("--rate", "20", "--seconds", "1", "--max-sent-late", "1", "--max-generator-cpu", "1")


@pytest.fixture(scope="module")
def shipped(
    triton_environment: object, make_checkpoint: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a server of `SERVED`."""
    assert triton_environment
    folder = tmp_path_factory.mktemp("shipped")
    for vertical, file in SERVED.items():
        schema = Schema.load(file)
        wide = tuple(replace(each, budget_ms=BUDGET_MS) for each in schema.verticals)
        make_checkpoint(replace(schema, verticals=wide), vertical).save(folder / f"{vertical}.pt")
        export(folder / f"{vertical}.pt", folder / "repository")
    with running(folder / "repository", folder / "serve.log") as server:
        yield server.address


@pytest.mark.parametrize("vertical", SERVED)
@pytest.mark.parametrize("candidates", ["dlrm-v2", "dlrm-v3"])
def test_every_request_is_answered_soundly(
    shipped: str, candidates: str, vertical: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    objectives, sent = tmp_path / "objectives.toml", tmp_path / "sent.jsonl"
    objectives.write_text("[objectives]\nerror_share = 0\n")
    asked = ["run", "--target", shipped, "--vertical", vertical, "--candidates", candidates, *LOAD, "--json"]
    files = ["--objectives", str(objectives), "--record", str(sent), "--out", str(tmp_path)]
    assert main([*asked, *files]) == 0, capfd.readouterr()
    made = json.loads(capfd.readouterr().out)
    schedule_s, workload = read_recording(sent)
    sizes = Counter(len(request) for request in workload.requests)
    assert made["figures"]["offered"] == len(schedule_s) == sizes.total() > 5
    assert made["figures"]["tiers"].get("full", 0) > 0
    assert sizes.keys() <= set(sizes_of(candidates).distinct)
    assert len(sizes) > 1 or candidates == "dlrm-v3"
