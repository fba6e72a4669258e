"""The plane under kill -9: nothing acknowledged is lost, nothing comes twice, everything is accounted for."""

from pathlib import Path

from bench.asynchrony.kill import kill_rounds


def test_ten_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    report = kill_rounds(tmp_path, 10, seed=3, gap_s=0.8)
    assert report.rounds == 10
    assert report.acknowledged > 50
    assert report.trained > 100
    assert (report.lost_outcomes, report.duplicates, report.unaccounted, report.store_wrong) == (0, 0, 0, 0)
