from pathlib import Path

import pytest

from bench.export import reload
from bench.export.publishing import measure_reload
from bench.export.reload import Sample


def test_a_reload_under_load_loses_nothing(
    published_repository: Path, triton_environment: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert triton_environment
    monkeypatch.setattr(reload, "QUIET_S", 0.7)
    found = measure_reload(published_repository / "feed_click" / "1", tmp_path, seed=0, reloads=1)
    assert (found["failed"], found["reasons"]) == (0, [])
    assert found["requests"]["during"] > found["requests"]["loading"] > 3
    assert found["requests"]["outside"] > 10
    assert found["p99_ratio"] == pytest.approx(found["p99_during_ms"] / found["p99_outside_ms"])


def test_ratios_are_of_requests_during_a_reload_over_those_outside() -> None:
    sample = Sample(
        during=[2.0] * 99 + [8.0], loading=[4.0] * 9, outside=[1.0] * 100, failed=3, reload_s=[1.0, 2.0, 9.0]
    )
    found = sample.to_dict()
    assert found["p50_ratio"] == 2.0
    assert 2.0 < found["p99_ratio"] < 8.0
    assert (found["p50_ratio_loading"], found["p99_ratio_loading"]) == (4.0, 4.0)
    assert (found["failed"], found["reload_s"]) == (3, 2.0)
