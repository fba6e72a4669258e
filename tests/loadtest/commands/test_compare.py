"""What two results must have in common, and what makes the second the worse one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.arrivals.schedule import digest_of
from loadtest.commands.likeness import SAME, unlike
from loadtest.commands.main import main
from loadtest.driving.target import Reply
from loadtest.verdict.rise import Rise
from loadtest.verdict.tally import Tally

CONDITIONS: dict[str, Any] = dict.fromkeys(SAME, "as told") | {"memory_gib": 15.6}


def document(kind: str = "run", **more: Any) -> dict[str, Any]:
    facts = {"invalid": [], "seconds": 30.0, "capacity_rps": 100.0, "sweep": [{"multiple": 1.0}, {"multiple": 4.0}]}
    return {"kind": kind, "format_version": 1, "conditions": CONDITIONS, **facts, **more}


@pytest.mark.parametrize("name", SAME)
def test_every_condition_that_changes_a_figure_counts(name: str) -> None:
    other = {**CONDITIONS, name: 7.5}
    (said,) = unlike(document(), document(conditions=other))
    assert said == f"{name}: {CONDITIONS[name]} and 7.5"
    assert unlike(document(), document()) == []


def test_a_file_of_the_time_before_streams_was_measured_by_calls() -> None:
    old = {name: value for name, value in CONDITIONS.items() if name != "call"}
    called = document(conditions={**CONDITIONS, "call": "rank"})
    assert unlike(document(conditions=old), called) == []
    assert unlike(document(conditions=old), document(conditions={**old, "call": "stream"})) == ["call: rank and stream"]


def test_lengths_and_multiples_count_where_they_are_chosen() -> None:
    assert unlike(document(), document(seconds=5.0)) == ["seconds: 30.0 and 5.0"]
    assert unlike(document("capacity"), document("capacity", seconds=5.0)) == []  # the search itself decides on it
    other = document("overload", sweep=[{"multiple": 1.0}, {"multiple": 10.0}])
    assert unlike(document("overload"), other) == ["multiples: [1.0, 4.0] and [1.0, 10.0]"]
    assert unlike(document("overload"), document("overload", capacity_rps=100.9)) == []
    assert unlike(document("overload"), document("overload", capacity_rps=102.0)) == ["capacity_rps: 100.0 and 102.0"]


def test_what_a_kernel_keeps_to_itself_is_no_other_machine() -> None:
    assert unlike(document(), document(conditions={**CONDITIONS, "memory_gib": 15.7})) == []


def test_other_instants_are_another_schedule() -> None:
    schedule_s = np.array([0.0123, 0.0456, 1.5])
    assert digest_of(schedule_s) == digest_of(schedule_s + 1e-8) != digest_of(schedule_s * 1.001)
    assert digest_of(np.append(schedule_s, 9.0)) != digest_of(schedule_s)


def file(folder: Path, name: str, wrong: int, failed: int = 0, offered: int = 2000) -> str:
    tally = Tally(0.025)
    for at in range(offered):
        tier = "wrong" if at < wrong else "failed" if at < wrong + failed else "full"
        tally.add(Reply(tier == "full", tier), 0.004, 0.0)
    (folder / name).write_text(json.dumps(document(tally=tally.plain())))
    return str(folder / name)


@pytest.mark.parametrize(
    ("first", "second", "worse"),
    [
        ((0, 0), (16, 0), ["error_share", "wrong_share"]),
        ((0, 0), (1, 0), ["wrong_share"]),  # one failure may be chance, one wrong answer is a fault
        ((0, 0), (0, 1), []),
        ((0, 0), (0, 16), ["error_share"]),
        ((0, 16), (0, 18), []),
        ((16, 0), (0, 0), []),
    ],
)
def test_errors_and_wrong_answers_are_compared(
    tmp_path: Path,
    first: tuple[int, int],
    second: tuple[int, int],
    worse: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = file(tmp_path, "first", *first), file(tmp_path, "second", *second)
    assert main(["compare", *pair, "--json", "--rounds", "20"]) == (1 if worse else 0)
    made = json.loads(capsys.readouterr().out)
    assert made["worse"] == worse
    assert made["rises"]["error_share"]["second"] == sum(second) / 2000
    assert main(["compare", *pair, "--rounds", "20"]) == (1 if worse else 0)
    assert "error_share" in capsys.readouterr().out


def test_a_rise_is_newcombes() -> None:
    # Table II of the paper: 56/70 less 48/80 is 0.2, from 0.0524 to 0.3339.
    made = Rise(first=(48, 80), second=(56, 70)).difference
    assert (made.value, made.low, made.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
