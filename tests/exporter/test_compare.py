from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.compare import QualityGate, compare, ne_of
from exporter.errors import ExportRefusedError, VersionError
from exporter.signing import NO_KEYS

TASKS = ("click", "like")
VERTICAL = "feed_click"
GATE = QualityGate(0.005)


def quality(click: Any, like: Any = 0.8) -> dict[str, Any]:
    return {"ne": click, "tasks": {"like": {"ne": like}}}


@pytest.fixture(scope="module")
def home(put: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("compare"), ne=0.9).parent


def test_nothing_served_is_nothing_to_compare(tmp_path: Path) -> None:
    found = compare(quality(5.0), TASKS, tmp_path / VERTICAL, NO_KEYS, GATE)
    assert (found.version, found.ne_loss, found.excuse) == (None, {}, "")


@pytest.mark.parametrize("ne", [0.5, 0.9, 0.9 * 1.0049])
def test_better_and_little_worse_pass(home: Path, ne: float) -> None:
    found = compare(quality(ne), TASKS, home, NO_KEYS, GATE)
    assert found.version == 1
    assert found.ne_loss == pytest.approx({"click": ne / 0.9 - 1, "like": 0.0})


@pytest.mark.parametrize(("click", "like", "task"), [(0.9 * 1.0051, 0.8, "click"), (0.9, 0.9, "like")])
def test_any_task_that_is_worse_is_refused(home: Path, click: float, like: float, task: str) -> None:
    with pytest.raises(
        ExportRefusedError, match=f"NE of {task} is .*% worse than served version 1's; the bound is 0.50"
    ):
        compare(quality(click, like), TASKS, home, NO_KEYS, GATE)
    allowed = compare(quality(click, like), TASKS, home, NO_KEYS, QualityGate(0.005, allow_worse=True))
    assert allowed.ne_loss[task] > 0.005
    assert "worse than served version 1" in allowed.to_dict()["excuse"]


@pytest.mark.parametrize("ne", [None, float("nan"), float("inf"), "good"])
def test_a_figure_that_went_missing_is_refused(home: Path, ne: Any) -> None:
    with pytest.raises(ExportRefusedError, match="no finite NE of click"):
        compare(quality(ne), TASKS, home, NO_KEYS, GATE)


def test_a_new_task_has_nothing_to_be_compared_with(home: Path) -> None:
    new = {"ne": 0.9, "tasks": {"like": {"ne": 0.8}, "share": {"ne": 3.0}}}
    assert set(compare(new, (*TASKS, "share"), home, NO_KEYS, GATE).ne_loss) == set(TASKS)


def test_a_damaged_served_version_is_no_measure(put: Callable[..., Path], tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "model.py").chmod(0o644)
    (folder / "model.py").write_bytes(b"tampered")
    with pytest.raises(VersionError, match=r"model\.py: sha256 .*roll back, or publish with --allow-worse"):
        compare(quality(0.1), TASKS, folder.parent, NO_KEYS, GATE)
    assert "sha256" in compare(quality(0.1), TASKS, folder.parent, NO_KEYS, QualityGate(allow_worse=True)).excuse


def test_figures_by_task() -> None:
    assert ne_of(quality(0.9, None), TASKS) == {"click": 0.9}
    assert ne_of({}, ()) == {}


def test_a_task_that_was_dropped_is_refused(home: Path) -> None:
    with pytest.raises(ExportRefusedError, match="tasks: no like, which the served version answers"):
        compare({"ne": 0.5}, TASKS[:1], home, NO_KEYS, GATE)
    assert "no like" in compare({"ne": 0.5}, TASKS[:1], home, NO_KEYS, QualityGate(0.005, allow_worse=True)).excuse
