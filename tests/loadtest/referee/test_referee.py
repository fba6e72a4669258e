"""LoadGen itself against a server without a model, over a real socket."""

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.commands import referee as command
from loadtest.referee.referee import RefereeError, Ruling, confirm, measure
from loadtest.referee.summary import Summary

pytest.importorskip("mlperf_loadgen")

Scripted = Callable[..., AbstractContextManager[str]]
BOUND_S = 0.3


def test_a_server_that_answers_soundly_in_time_is_valid_and_the_files_stay(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address:
        ruling = measure(
            address, "selftest", 400.0, 2.0, tmp_path / "run", seconds=1.8, candidates="20", least_queries=700
        )
    assert ruling.plain()["call"] == "rank"
    assert ruling.summary.valid
    assert ruling.summary.scenario == "Server"
    assert ruling.summary.scheduled_qps == pytest.approx(400.0, rel=0.15)
    assert ruling.tiers.keys() == {"full"}
    assert (tmp_path / "run" / "mlperf_log_summary.txt").is_file()
    assert (tmp_path / "run" / "mlperf_log_detail.txt").is_file()
    assert "unofficially" in ruling.plain()["notice"]


def test_loadgen_asks_over_streams_when_told(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(only_streams=True) as address:
        ruling = measure(
            address, "selftest", 400.0, 2.0, tmp_path, seconds=1.8, candidates="20", call="stream", least_queries=700
        )
    assert ruling.summary.valid
    assert ruling.tiers.keys() == {"full"}
    assert ruling.plain()["call"] == "stream"


def test_quick_refusals_are_late_to_loadgen(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(refuse=grpc.StatusCode.RESOURCE_EXHAUSTED) as address:
        ruling = measure(address, "selftest", 200.0, BOUND_S, tmp_path, seconds=0.5, candidates="20", least_queries=10)
    assert not ruling.summary.valid
    assert "Performance constraints" in ruling.summary.unsatisfied
    assert ruling.tiers.keys() == {"shed"}
    assert ruling.summary.percentile_ms[50.0] > BOUND_S * 1e3


def test_without_a_server_for_it_there_is_no_verdict_and_the_reason_is_told(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address, pytest.raises(RefereeError, match="doesn't describe"):
        measure(address, "nobody", 100.0, BOUND_S, tmp_path, seconds=1.0, least_queries=10)


def ruled(valid_up_to: float) -> Callable[[float], Ruling]:
    return lambda rate: Ruling(rate, 1.0, "rank", Summary(rate <= valid_up_to, "Server", rate), {}, Path())


@pytest.mark.parametrize(
    ("valid_up_to", "asked"), [(200.0, [100.0]), (96.0, [100.0, 95.0]), (10.0, [100.0, 95.0, 90.0])]
)
def test_a_capacity_is_tried_itself_and_then_a_little_below(valid_up_to: float, asked: list[float]) -> None:
    made = confirm(100.0, ruled(valid_up_to))
    assert [each.target_qps for each in made] == asked
    assert made[-1].summary.valid == (asked[-1] <= valid_up_to)


@pytest.mark.parametrize(("valid", "code"), [(True, 0), (False, 1)])
def test_the_command_ends_by_the_verdict(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], valid: bool, code: int
) -> None:
    def stub(_: str, vertical: str, rate: float, bound_s: float, *__: Any, call: str, **___: Any) -> Ruling:
        assert (vertical, rate, bound_s, call) == ("selftest", 50.0, 2.0, "stream")
        return Ruling(rate, 1.0, call, Summary(valid, "Server", rate, (), {99.0: 3.0}), {"full": 5}, Path("files"))

    monkeypatch.setattr(command, "measure", stub)
    parser = argparse.ArgumentParser()
    command.add(parser)
    with scripted() as address:
        asked = parser.parse_args(
            ["--target", address, "--vertical", "selftest", "--rate", "50", "--call", "stream", "--json"]
        )
        assert command.main(asked) == code
    assert json.loads(capsys.readouterr().out)["valid"] is valid
