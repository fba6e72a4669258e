import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.referee.summary import SummaryError, parse_summary

TEXT = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 149.99
Result is : {result}
  Performance constraints satisfied : {performance}
  Min duration satisfied : Yes
  Min queries satisfied : Yes
  Early stopping satisfied: {early}
Recommendations:
Early Stopping Result:
 * Run successful.

================================================
Additional Stats
================================================
Scheduled samples per second : {scheduled}
Min latency (ns)                : 2472726
50.00 percentile latency (ns)   : 3551872
99.00 percentile latency (ns)   : {p99_ns}
99.90 percentile latency (ns)   : 110422866
"""
YES_NO = st.sampled_from(("Yes", "NO"))


def text(**given: object) -> str:
    usual = {"result": "VALID", "performance": "Yes", "early": "Yes", "scheduled": 150.06, "p99_ns": 17725458}
    return TEXT.format(**{**usual, **given})


def test_a_valid_run() -> None:
    summary = parse_summary(text())
    assert summary.valid
    assert summary.scenario == "Server"
    assert summary.scheduled_qps == 150.06
    assert summary.unsatisfied == ()
    assert summary.percentile_ms == {50.0: 3.551872, 99.0: 17.725458, 99.9: 110.422866}


@given(st.sampled_from(("VALID", "INVALID")), YES_NO, YES_NO, st.floats(0.01, 1e6), st.integers(0, 10**12))
def test_every_figure_comes_back(result: str, performance: str, early: str, scheduled: float, p99_ns: int) -> None:
    made = text(result=result, performance=performance, early=early, scheduled=scheduled, p99_ns=p99_ns)
    summary = parse_summary(made)
    assert summary.valid == (result == "VALID")
    assert ("Performance constraints" in summary.unsatisfied) == (performance == "NO")
    assert ("Early stopping" in summary.unsatisfied) == (early == "NO")
    assert summary.scheduled_qps == scheduled
    assert summary.percentile_ms[99.0] == p99_ns / 1e6


@given(st.text())
def test_any_other_text_is_refused_and_never_taken_for_valid(junk: str) -> None:
    with pytest.raises(SummaryError):
        parse_summary(junk)


@given(st.integers(0, len(TEXT)))
def test_a_summary_cut_short_gives_its_own_verdict_or_none(length: int) -> None:
    whole = text(result="INVALID")
    with contextlib.suppress(SummaryError):
        assert not parse_summary(whole[:length]).valid


@pytest.mark.parametrize("line", ["Result is : VALID", "Scheduled samples per second : 150.06"])
def test_verdict_and_rate_must_be_there(line: str) -> None:
    with pytest.raises(SummaryError):
        parse_summary(text().replace(line, ""))
