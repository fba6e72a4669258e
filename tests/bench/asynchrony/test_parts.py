"""The bench's parts: how they come together, and those that need no Triton."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.asynchrony import __main__ as bench
from bench.asynchrony import crowd
from bench.asynchrony import histories as arms
from bench.asynchrony.crowd import Crowd
from bench.asynchrony.rank_lookup import rank_lookups
from bench.asynchrony.setting import answered, paired, quantile_ms, shares
from bench.overload.figures import Record
from bench.overload.load import Run
from bench.overload.plant import BenchError
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.distill.metrics import Figures
from exfm.features.embeddings import quantise
from exfm.features.history import History
from exfm.features.schema import Columns, HistorySpec
from loadtest.checking.outcomes import Outcome
from serving.repository import load_catalog


def _turn(latency_ms: list[float], outcome: Outcome = Outcome.FULL) -> Run:
    count = len(latency_ms)
    zeros = np.zeros(count)
    record = Record(zeros, np.zeros(count, np.int64), np.array(latency_ms) / 1e3, zeros, np.full(count, outcome))
    return Run(record, 1.0, 0.0, 0.0, 0.0, 0.0)


def test_turns_are_compared_with_their_neighbours() -> None:
    fast, slow = [_turn([1, 2, 3]), _turn([10, 20, 30])], [_turn([2, 4, 6]), _turn([10, 10, 10])]
    assert paired(slow, fast, 0.5, 0.1) == pytest.approx([2.0, 0.5])
    assert quantile_ms(fast, 0.5, 0.1) == pytest.approx(6.5)
    said = shares([_turn([1, 2]), _turn([30, 1], Outcome.PRIOR)], 0.025)
    assert (said["requests"], said["late_share"], said["full_share"]) == (4, 0.25, 0.5)
    assert [answered(_turn([1], each).record) for each in (Outcome.PRIOR, Outcome.SHED, Outcome.FAILED)] == [1, 0, 0]


def test_what_is_no_full_answer_counts_as_the_budget_at_least() -> None:
    outcomes = (Outcome.FULL, Outcome.LITE, Outcome.PRIOR, Outcome.SHED, Outcome.FAILED)
    assert [quantile_ms([_turn([3], each)], 0.5, 0.025) for each in outcomes] == pytest.approx([3, 25, 25, 25, 25])
    assert quantile_ms([_turn([30], Outcome.PRIOR)], 0.5, 0.025) == pytest.approx(30)
    assert paired([_turn([1], Outcome.SHED)], [_turn([5])], 0.99, 0.025) == pytest.approx([5.0])


def _fails(_: Path, __: Any) -> dict[str, Any]:
    raise BenchError("broken")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    parts = {"one": lambda folder, _: {"a": len(os.listdir(folder)), "more": {"x": 1}}, "two": _fails}
    parts["three"] = lambda _, asked: {"b": asked.turns}
    monkeypatch.setattr(bench, "PARTS", parts)

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = bench.main([*arguments, "--out", str(tmp_path)])
        return code, json.loads((tmp_path / "async.json").read_text())

    return call


def test_parts_add_to_one_file_and_a_broken_one_costs_none_of_the_others(run: Callable[..., Any]) -> None:
    assert run("--only", "one") == (0, {"a": 0, "more": {"x": 1}})
    assert run("--only", "three", "--turns", "7") == (0, {"a": 0, "more": {"x": 1}, "b": 7})
    assert run() == (1, {"a": 0, "more": {"x": 1}, "b": 7})


SOUND = {"rounds": 40, "lost_outcomes": 0, "failed": 0, "store_behind": 1, "lookups": {"hit": 1, "miss": 9}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, ""),
        ({"store_behind": 0}, "no store died amid an update"),
        ({"lookups": {"miss": 9}}, "no history was found"),
        ({"rounds": 39, "store_behind": 0, "lookups": {}}, ""),
        ({"rounds": 4, "lost_outcomes": 2}, "lost_outcomes is 2"),
    ],
)
def test_many_kills_must_have_met_an_update_and_left_histories(
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setitem(bench.PARTS, "kill", lambda *_: {"kill": {**SOUND, **found}})
    code, _ = run("--only", "kill")
    assert code == bool(said)
    assert said in capsys.readouterr().err


def test_histories_of_the_simulator_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EXFM_DATA_DIR", raising=False)
    small = Source("simulator", *simulate(0, Scale(rows=400, days=2, users=20, ads=20)))
    monkeypatch.setattr(arms, "open_source", lambda _: small)
    monkeypatch.setattr(arms, "_run", lambda *_: Figures(1, 0.5, 0.7, 1.0, 1.0))  # nothing is trained for this
    assert bench.main(["--only", "histories", "--out", str(tmp_path)]) == 0
    assert "WARNING: EXFM_DATA_DIR is not set" in capsys.readouterr().err
    about = json.loads((tmp_path / "async.json").read_text())["histories"]["about"]
    assert about["simulated"]
    assert "simulator" in about["warning"]


def test_an_unknown_part_is_bad_usage(run: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--only", "four")
    assert caught.value.code == 2


def test_histories_are_looked_up_inside_rank(published_repository: Path, tmp_path: Path) -> None:
    codes = quantise(np.full((2, 8), 0.5, np.float32), "int4")
    events = History(np.array([1, 2]), np.array([1, 2], np.uint64), np.ones(2, np.uint32), codes, 8, "int4")
    store = LmdbStore(tmp_path)
    store.update(dict.fromkeys(range(10), events), 1)
    store.close()
    plain = load_catalog(published_repository)["feed_click"]
    vertical = replace(plain, schema=replace(plain.schema, columns=Columns(user="user")))
    said = rank_lookups(vertical, tmp_path, [place % 20 for place in range(40)], HistorySpec(2, 8))
    assert said["hit"] + said["miss"] + said.get("timeout", 0) <= 40
    assert said["missed_share"] >= 0.5
    assert 0 < said["p50_us"] <= said["p99_us"]


def test_the_crowd_works_stops_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "MADE", 2000)
    monkeypatch.setattr(crowd, "MODEL", {"dimension": 4})
    # Not at its own priority: on a busy machine it would wait for its turn.
    annotator = Crowd(tmp_path, 20_000, ("--workers", "local:0", "--keep-priority"))
    try:
        annotator.start()
        annotator.halt()
        made, spent_s = annotator.annotated(), annotator.cpu_s()
        assert made > 0
        assert annotator.waiting() >= 20_000 - 2 * made
        assert annotator.cpu_s() == spent_s
        annotator.go()
        until_s = time.monotonic() + 30
        while annotator.annotated() == made:
            assert time.monotonic() < until_s
            time.sleep(0.05)
    finally:
        annotator.kill()
