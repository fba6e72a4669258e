"""A teacher of 10^12 parameters learns and annotates for real, in files that take the room of what it touched."""

from typing import Any

import pytest

from bench.scale.trillion import measure


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure(tmp_path_factory.mktemp("trillion"), rows=1000, chunk=250)


def test_a_trillion_parameters_are_trained_and_used(report: dict[str, Any]) -> None:
    for made in (report, report["two_ranks"], report["fresh_ids"]):
        assert made["parameters"] >= 10**12
        assert made["file_logical_bytes"] >= 4 * 10**12
        assert 0 < made["file_real_bytes"] <= 2 * 4096 * made["touched_rows"] + 4096
        assert made["commit_bytes"] < 100 * made["touched_rows"] + 4096
        assert all(rate > 0 for name, rate in made.items() if name.endswith("_per_s"))
    assert report["small_table_parameters"] < 100_000
    assert 0 < report["ne"] < 2
    assert report["fresh_ids"]["touched_rows"] > 3 * report["rows"] > report["touched_rows"]


def test_two_ranks_learn_the_same(report: dict[str, Any]) -> None:
    assert report["two_ranks"]["ne"] == report["ne"]
    assert report["ne_small_table"] != report["ne"]
    assert report["two_ranks"]["parts_rss_bytes"] > 0
