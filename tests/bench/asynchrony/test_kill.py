"""The plane under kill -9: nothing acknowledged is lost, nothing comes twice, everything is accounted for."""

from pathlib import Path

from bench.asynchrony.kill import kill_rounds


def test_eight_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    report = kill_rounds(tmp_path, 8, seed=3, gap_s=0.5, give_way=False)
    assert report.rounds == 8
    assert report.killed == {"frontend": 2, "joiner": 2, "annotator": 2, "store": 2}
    assert report.acknowledged > 50
    assert report.trained > 100
    assert (report.lost_outcomes, report.duplicates, report.unaccounted, report.store_wrong) == (0, 0, 0, 0)
    assert (report.failed, report.store_lost) == (0, 1)
    assert report.lookups["hit"] > 0
    assert not {"broken", "other_space"} & set(report.lookups)
