"""Counters of several real processes, killed ones included, add up to one truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.telemetry.exposition import exposition
from serving.telemetry.metrics import METRICS

COUNT = """
import os, signal, sys
from pathlib import Path
from serving.telemetry.hooks import Details
from serving.telemetry.prometheus import PrometheusAdapter, count_into

count_into(Path(sys.argv[1]), int(sys.argv[2]))
adapter = PrometheusAdapter()
for number in range(100):
    spent_s = 0.019 if number < 90 else 0.021
    adapter(Details("feed", "full", "", "OK", 7, 0.02, spent_s, (("wait", 0.001), ("score", 0.002)), "live"))
adapter(Details("", "", "", "INVALID_ARGUMENT", 0, 0.0, 0.001, ()))
os.kill(os.getpid(), signal.SIGKILL)
"""
COST = """
import sys, time
from pathlib import Path
from serving.budget.deadline import Arrival
from serving.budget.ledger import Ledger
from serving.telemetry.hooks import Hooks
from serving.telemetry.prometheus import PrometheusAdapter, count_into
from serving.telemetry.recent import Recent

count_into(Path(sys.argv[1]), 0)
hooks = Hooks()
hooks.add(Recent())
hooks.add(PrometheusAdapter())
ledger = Ledger(time.monotonic())
for stage in ("wait", "decode", "score", "order", "encode"):
    ledger.close(stage)
costs = []
for _ in range(3000):
    began_s = time.perf_counter()
    visit = hooks.open(Arrival(time.monotonic()))
    visit.vertical, visit.tier, visit.budget_s, visit.ledger, visit.candidates = "feed", "full", 0.02, ledger, 200
    hooks.close(visit, "OK")
    costs.append(time.perf_counter() - began_s)
sys.stdout.write(str(1e6 * sorted(costs)[len(costs) // 2]))
"""
FEED = {
    "trusted": True,
    "lite": {"name": "feed_lite", "trusted": False},
    "prior": {"version": 7, "age_s": 1.5, "refreshes": 3, "refusals": 2},
}
BACKENDS = {
    "hedges": {"begun": 5, "won": 4},
    "log": {"written": {"impressions": 30, "outcomes": 4}, "dropped": {"queue_full": 2}, "queued": 7},
    "histories": {"found": {"hit": 8, "timeout": 1}},
    "door": {"shed_share": 0.5, "wait_s": 0.004},
    "backends": {
        "gpu1:8001": {
            "in_flight_s": 0.25,
            "calls": 2,
            "verticals": {
                "feed": {
                    "breaker": "half_open",
                    "ejections": {"gone": 1, "silent": 3},
                    "coverage": 0.985,
                    "batches": {"calls": 10, "scored": 35, "dropped": 6, "waiting": 1},
                }
            },
        }
    },
}
STATE = {
    "ready": True,
    "triton": {"restarts": 2},
    "versions": {"feed": 4},
    "workers": [
        {
            "worker": 0,
            "up": True,
            "ready": True,
            "restarts": 1,
            "state": {"in_flight": 3, "limits": {"work_s": 0.5}, "verticals": {"feed": FEED}, **BACKENDS},
        },
        {"worker": 1, "up": False, "ready": False, "restarts": 0, "state": {}},
    ],
}


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Worker 0 ran twice, worker 1 once; each was killed after 101 requests. Worker 2 died before its first byte."""
    folder = tmp_path_factory.mktemp("counters")
    for worker in ("0", "1", "0"):
        _run(COUNT, str(folder), worker)
    (folder / "counter_2.db").touch()
    assert len(list(folder.glob("*.db"))) == 5
    return exposition(folder, STATE).decode()


def _value(scraped: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", scraped, re.MULTILINE)
    assert found, sample
    return float(found[1])


def test_counts_add_up_over_processes_and_restarts(scraped: str) -> None:
    answered = '{code="OK",priority="live",reason="",tier="full",vertical="feed"}'
    assert _value(scraped, f"exfm_requests_total{answered}") == 300
    assert _value(scraped, 'exfm_candidates_total{tier="full",vertical="feed"}') == 2100
    assert _value(scraped, 'exfm_stage_seconds_total{stage="score",vertical="feed"}') == pytest.approx(0.6)


def test_the_share_inside_the_budget_is_exact(scraped: str) -> None:
    inside = _value(scraped, 'exfm_request_budget_ratio_bucket{le="1.0",tier="full",vertical="feed"}')
    assert inside / _value(scraped, 'exfm_request_budget_ratio_count{tier="full",vertical="feed"}') == 0.9


def test_process_metrics_come_from_the_state(scraped: str) -> None:
    assert _value(scraped, "exfm_ready") == 1
    assert _value(scraped, "exfm_triton_restarts_total") == 2
    assert _value(scraped, 'exfm_worker_up{worker="1"}') == 0
    assert _value(scraped, 'exfm_in_flight{worker="0"}') == 3
    assert _value(scraped, 'exfm_limit{limit="work_s",worker="0"}') == 0.5
    assert _value(scraped, 'exfm_door_shed_ratio{worker="0"}') == 0.5
    assert _value(scraped, 'exfm_door_wait_seconds{worker="0"}') == 0.004
    assert _value(scraped, 'exfm_model_info{version="4",vertical="feed"}') == 1
    assert 'exfm_in_flight{worker="1"}' not in scraped
    assert _value(scraped, 'exfm_canary_trusted{vertical="feed",worker="0"}') == 1
    assert _value(scraped, 'exfm_canary_trusted{vertical="feed_lite",worker="0"}') == 0
    of_prior = '{vertical="feed",worker="0"}'
    for name, value in {"version": 7, "age_seconds": 1.5, "refreshes_total": 3, "refusals_total": 2}.items():
        assert _value(scraped, f"exfm_prior_{name}{of_prior}") == value


def test_the_log_and_the_histories_are_told_of(scraped: str) -> None:
    assert _value(scraped, 'exfm_log_written_total{topic="impressions",worker="0"}') == 30
    assert _value(scraped, 'exfm_log_written_total{topic="outcomes",worker="0"}') == 4
    assert _value(scraped, 'exfm_log_dropped_total{reason="queue_full",worker="0"}') == 2
    assert _value(scraped, 'exfm_log_queued{worker="0"}') == 7
    assert _value(scraped, 'exfm_history_lookups_total{result="hit",worker="0"}') == 8
    assert _value(scraped, 'exfm_history_lookups_total{result="timeout",worker="0"}') == 1


def test_each_backend_is_told_of_apart(scraped: str) -> None:
    where = 'backend="gpu1:8001"'
    silent = f'{{{where},cause="silent",vertical="feed",worker="0"}}'
    assert _value(scraped, f'exfm_backend_in_flight_seconds{{{where},worker="0"}}') == 0.25
    assert _value(scraped, f'exfm_backend_calls{{{where},worker="0"}}') == 2
    assert _value(scraped, f'exfm_backend_breaker{{{where},vertical="feed",worker="0"}}') == 1
    assert _value(scraped, f"exfm_backend_ejections_total{silent}") == 3
    assert _value(scraped, f'exfm_estimate_coverage_ratio{{{where},vertical="feed",worker="0"}}') == 0.985
    batches = {"calls_total": 10, "requests_total": 35, "dropped_total": 6, "waiting": 1}
    for name, value in batches.items():
        assert _value(scraped, f'exfm_batch_{name}{{{where},vertical="feed",worker="0"}}') == value
    assert _value(scraped, 'exfm_hedges_total{worker="0"}') == 5
    assert _value(scraped, 'exfm_hedges_won_total{worker="0"}') == 4


def test_the_list_is_what_is_exposed(scraped: str) -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scraped, re.MULTILINE))
    assert types == {metric.name: metric.kind for metric in METRICS}
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", scraped, re.MULTILINE))
    assert set(helps) == set(types)


def test_telling_of_a_request_costs_little(tmp_path: Path) -> None:
    assert float(_run(COST, str(tmp_path))) < 50
