"""LoadGen itself against a server without a model, over a real socket."""

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.commands import referee as command
from loadtest.referee.job import Carried, carried
from loadtest.referee.referee import RefereeError, Ruling, confirm, measure
from loadtest.referee.summary import Summary

Scripted = Callable[..., AbstractContextManager[str]]
BOUND_S = 0.3
WELL = Carried({"full": 5}, 0.2, 0.3, 0.0)


def test_a_server_that_answers_soundly_in_time_is_valid_and_the_files_stay(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address:
        ruling = measure(
            address, "selftest", 400.0, 2.0, tmp_path / "run", seconds=1.8, candidates="20", least_queries=700
        )
    assert ruling.plain()["call"] == "rank"
    assert ruling.summary.valid
    assert ruling.summary.scenario == "Server"
    assert ruling.summary.scheduled_qps == pytest.approx(400.0, rel=0.15)
    assert ruling.carried.tiers.keys() == {"full"}
    assert (tmp_path / "run" / "mlperf_log_summary.txt").is_file()
    assert (tmp_path / "run" / "mlperf_log_detail.txt").is_file()
    assert "unofficially" in ruling.plain()["notice"]


def test_loadgen_asks_over_streams_when_told(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(only_streams=True) as address:
        ruling = measure(
            address, "selftest", 400.0, 2.0, tmp_path, seconds=1.8, candidates="20", call="stream", least_queries=700
        )
    assert ruling.summary.valid
    assert ruling.carried.tiers.keys() == {"full"}
    assert ruling.plain()["call"] == "stream"


def test_quick_refusals_are_late_to_loadgen(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(refuse=grpc.StatusCode.RESOURCE_EXHAUSTED) as address:
        ruling = measure(address, "selftest", 200.0, BOUND_S, tmp_path, seconds=0.5, candidates="20", least_queries=10)
    assert not ruling.summary.valid
    assert "Performance constraints" in ruling.summary.unsatisfied
    assert ruling.carried.tiers.keys() == {"shed"}
    assert ruling.summary.percentile_ms[50.0] > BOUND_S * 1e3


def test_without_a_server_for_it_there_is_no_verdict_and_the_reason_is_told(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address, pytest.raises(RefereeError, match="doesn't describe"):
        measure(address, "nobody", 100.0, BOUND_S, tmp_path, seconds=1.0, least_queries=10)


def ruled(valid_up_to: float, drawn: float = 1.0, counted: Carried = WELL) -> Callable[[float], Ruling]:
    """Rulings of a LoadGen that draws schedules of `drawn` times its target."""
    return lambda rate: Ruling(rate, 1.0, "rank", Summary(rate <= valid_up_to, "Server", drawn * rate), counted, Path())


@pytest.mark.parametrize(
    ("valid_up_to", "asked"), [(200.0, [100.0]), (97.0, [100.0, 96.0]), (10.0, [100.0, 96.0, 92.0])]
)
def test_a_capacity_is_tried_itself_and_then_a_little_below(valid_up_to: float, asked: list[float]) -> None:
    made = confirm(100.0, ruled(valid_up_to))
    assert [each.target_qps for each in made] == asked
    assert made[-1].confirms(100.0) == (asked[-1] <= valid_up_to)


@pytest.mark.parametrize(("drawn", "confirmed"), [(0.985, True), (0.97, False)])
def test_what_loadgen_offered_must_itself_lie_within_ten_percent(drawn: float, confirmed: bool) -> None:
    last = confirm(100.0, ruled(92.0, drawn))[-1]
    assert (last.target_qps, last.summary.valid) == (92.0, True)
    assert last.confirms(100.0) is confirmed


@pytest.mark.parametrize(
    ("cpu_share", "lag_s", "words"),
    [(0.5, 0.001, ()), (0.97, 0.001, ("97%",)), (0.5, 0.008, ("5 ms late", "sent half"))],
)
def test_an_invalid_of_a_process_that_was_busy_itself_is_inconclusive(
    cpu_share: float, lag_s: float, words: tuple[str, ...]
) -> None:
    counted = carried({"full": 1000}, [lag_s] * 1000, 0.025, cpu_share)
    assert counted.sent_late_p99_ms == pytest.approx(lag_s * 1e3)
    ruling = ruled(10.0, counted=counted)(100.0)
    assert ruling.word == ("INCONCLUSIVE" if words else "INVALID")
    assert len(ruling.faults) == len(words)
    assert all(word in fault for word, fault in zip(words, ruling.faults, strict=True))
    assert ruling.plain()["faults"] == list(ruling.faults)
    # Whatever its process did can only have made it worse.
    valid = ruled(200.0, counted=counted)(100.0)
    assert (valid.word, valid.faults) == ("VALID", ())


def test_a_rate_that_the_process_itself_cannot_send_is_inconclusive(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address:
        ruling = measure(
            address, "selftest", 20_000.0, BOUND_S, tmp_path, seconds=0.3, candidates="20", least_queries=10
        )
    assert ruling.word == "INCONCLUSIVE"
    assert ruling.carried.sent_late_share > 0.1


def test_how_late_the_process_itself_was_is_counted(scripted: Scripted, tmp_path: Path) -> None:
    with scripted() as address:
        ruling = measure(address, "selftest", 200.0, 2.0, tmp_path, seconds=0.5, candidates="20", least_queries=10)
    assert 0.0 < ruling.carried.cpu_share < 2.0
    assert 0.0 < ruling.carried.sent_late_p99_ms < 2000.0
    assert sum(ruling.carried.tiers.values()) == pytest.approx(100, rel=0.5)


@pytest.mark.parametrize("ends", [(True, (), 0), (False, (), 1), (False, ("busy",), 3)])
def test_the_command_ends_by_the_verdict(
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ends: tuple[bool, tuple[str, ...], int],
) -> None:
    valid, faults, code = ends

    def stub(_: str, vertical: str, rate: float, bound_s: float, *__: Any, call: str, **___: Any) -> Ruling:
        assert (vertical, rate, bound_s, call) == ("selftest", 50.0, 2.0, "stream")
        summary = Summary(valid, "Server", rate, (), {99.0: 3.0})
        return Ruling(rate, 1.0, call, summary, replace(WELL, faults=faults), Path("files"))

    monkeypatch.setattr(command, "measure", stub)
    parser = argparse.ArgumentParser()
    command.add(parser)
    with scripted() as address:
        asked = parser.parse_args(
            ["--target", address, "--vertical", "selftest", "--rate", "50", "--call", "stream", "--json"]
        )
        assert command.main(asked) == code
    assert json.loads(capsys.readouterr().out)["valid"] is valid
