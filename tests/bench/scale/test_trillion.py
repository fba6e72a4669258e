"""A teacher of 10^12 parameters learns and annotates for real, in a file that takes the room of what it touched."""

from pathlib import Path

from bench.scale.trillion import measure


def test_a_trillion_parameters_are_trained_and_used(tmp_path: Path) -> None:
    report = measure(tmp_path, rows=2000)
    assert report["parameters"] >= 10**12
    assert report["file_logical_bytes"] >= 4 * 10**12
    assert 0 < report["file_real_bytes"] <= 2 * 4096 * report["touched_rows"] + 4096
    assert report["commit_bytes"] < 100 * report["touched_rows"] + 4096
    assert report["small_table_parameters"] < 100_000
    assert 0 < report["ne"] < 2
    assert report["train_examples_per_s"] > 0
    assert report["annotate_cold_examples_per_s"] > 0
