"""The generator against a server that stalls: the open loop tells the truth, the closed loop doesn't."""

import json

import pytest

from loadtest.commands.main import main


def test_the_open_loop_tells_the_truth_and_the_closed_loop_lies(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["selftest", "--json", "--seconds", "3", "--every-s", "3", "--stall-ms", "700", "--rate", "120"])
    made = json.loads(capfd.readouterr().out)
    assert code == 0
    assert made["true_p999_ms"] > 630
    assert made["open_p999_ms"] == pytest.approx(made["true_p999_ms"], rel=0.1)
    assert made["closed_p999_ms"] < made["true_p999_ms"] / 2


def test_runs_that_meet_no_stall_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--seconds", "0.3", "--every-s", "100", "--rate", "50"]) == 3
    assert "no request met a stall" in capfd.readouterr().err
