"""The generator against a server that stalls: the open loop tells the truth, the closed loop doesn't."""

import json

import pytest

from loadtest.commands import selftest
from loadtest.commands.main import main
from loadtest.commands.selftest import SelfTest
from loadtest.driving.target import Result
from loadtest.verdict.judge import FAIL, INVALID, PASS
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.tally import Tally, tally_of


def test_the_open_loop_tells_the_truth_and_the_closed_loop_lies(capfd: pytest.CaptureFixture[str]) -> None:
    stalls = ["selftest", "--json", "--stall-ms", "700", "--rate", "120"]
    code = main([*stalls, "--seconds", "3", "--every-s", "3"])
    if code == 3:  # a slow machine's closed loop takes longer to hide a stall
        code = main([*stalls, "--seconds", "15", "--every-s", "15"])
    made = json.loads(capfd.readouterr().out)
    assert code == 0
    assert made["true_p999_ms"] > 630
    assert made["open_p999_ms"] == pytest.approx(made["true_p999_ms"], rel=0.1)
    assert made["closed_p999_ms"] < made["true_p999_ms"] / 2


def test_runs_that_meet_no_stall_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--seconds", "0.3", "--every-s", "100", "--rate", "50"]) == 3
    assert "no request met a stall" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("true_ms", "open_ms", "closed_ms", "closed", "code"),
    [
        (500.0, 510.0, 2.0, 9000, PASS),
        (500.0, 440.0, 2.0, 9000, FAIL),
        (500.0, 560.0, 2.0, 9000, FAIL),
        (500.0, 510.0, 300.0, 9000, FAIL),
        (500.0, 510.0, 300.0, 4000, INVALID),  # with four stalls 0.1 % of them may be slow
        (0.0, 1.0, 1.0, 9000, INVALID),
    ],
)
def test_both_loops_decide(true_ms: float, open_ms: float, closed_ms: float, closed: int, code: int) -> None:
    assert SelfTest(true_ms, open_ms, closed_ms, 4000, closed, stalls=4).code == code


def test_it_is_the_reported_figure_that_is_tested(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(result: Result, budget_s: float) -> Tally:
        made = tally_of(result, budget_s)
        made.latencies = Latencies([0.001] * made.offered)
        return made

    monkeypatch.setattr(selftest, "tally_of", coarse)
    monkeypatch.setattr(selftest, "PER_STALL", 1)
    main(["selftest", "--json", "--seconds", "1.5", "--every-s", "0.6", "--stall-ms", "200", "--rate", "100"])
    made = json.loads(capfd.readouterr().out)
    assert (made["open_p999_ms"], made["verdict"]) == (pytest.approx(1.0, rel=0.01), "fail")
