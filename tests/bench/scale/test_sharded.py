"""The teacher over two ranks, and over one and three that go on from their checkpoint, is the unsharded teacher."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.scale import sharded
from bench.scale.servers import ServerMissingError
from exfm.distill.config import Rates, TeacherOptions

SMALL = TeacherOptions(
    model={
        "dimension": 6,  # no multiple of four, so that padding counts
        "layers": 1,
        "hidden": 16,
        "fmb": 2,
        "lcb": 2,
        "rank": 3,
        "counter_hidden": 8,
        "embedding": 8,
        "dropout": 0.0,
    },
    rates=Rates(average=0.9, multipliers={"ad_id": 3.0}),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    return sharded.measure(tmp_path_factory.mktemp("sharded"), rows=401, options=SMALL, batch=50, noises=1)


def test_the_same_weights_say_the_same_on_any_number_of_ranks(report: dict[str, Any]) -> None:
    assert set(report["differences"]) == {"untrained", "unsharded", "restored on 1", "restored on 3"}
    assert report["max_diff"] == max(report["differences"].values()) < 1e-6


def test_training_on_ranks_is_training_up_to_rounding(report: dict[str, Any]) -> None:
    """A few steps: over many, rounding alone takes two unsharded runs apart."""
    assert set(report["trained"]) == {"by 2", "on by 1", "on by 3"}
    assert max(report["trained"].values()) < 2e-6
    assert set(report["noise"]) == {"middle", "end"}


def test_it_learned_something_to_compare(report: dict[str, Any]) -> None:
    assert report["learned"] > 0.01


def test_the_annotator_says_the_same_over_ranks(report: dict[str, Any]) -> None:
    made = report["annotation"]
    assert made["max_diff"] < 1e-6
    assert made["codes_differ"] < 0.001
    assert min(made["examples_per_s"], made["alone_examples_per_s"]) > 0


def test_speeds_are_of_each_number_of_ranks(report: dict[str, Any]) -> None:
    for name in ("train_examples_per_s", "annotate_examples_per_s"):
        assert set(report[name]) == {"0", "1", "2", "3"}
        assert all(rate > 0 for rate in report[name].values())
    assert report["examples_per_s"] == report["train_examples_per_s"]["2"]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sharded, "find_spec", lambda _: None)
    with pytest.raises(ServerMissingError, match=r"torchrec is not installed: pip install .* --no-deps torchrec"):
        sharded.measure(tmp_path, rows=10)
