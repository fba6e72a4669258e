"""`exfm-annotate plan`."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.asynchrony.teacher import publish
from bench.scale.ranks import annotate_into, run_ranks
from exfm.augment.planning.asked import ask_torchrec
from exfm.augment.planning.plan import Cluster, TeacherSize
from exfm.commands.annotate import main
from exfm.features.schema import Schema

DESCRIBED = ["plan", "--rows", "1000", "--dimension", "8", "--features", "5", "--flops", "1e6", "--memory-gb", "1"]
SPREAD = ["plan", "--rows", "8000000", "--dimension", "127", "--features", "4", "--flops", "1e6", "--speed", "9"]
SPREAD += ["--devices", "4", "--traffic", "1", "--json", "--memory-gb"]


@pytest.fixture
def teacher(schema: Schema, tmp_path: Path) -> str:
    return str(publish(schema, tmp_path, "first", dimension=4).path("first"))


def test_a_traffic_that_is_kept_up_with_exits_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DESCRIBED, "--speed", "100", "--traffic", "50", "--cost", "2"]) == 0
    out = capsys.readouterr().out
    assert "1,000 rows x 9 columns x 4 B = 36,000 B" in out
    assert "it keeps up, at 50% of what 1 can do" in out
    assert "torchrec's planner    not asked: there is one device" in out


def test_one_that_is_not_exits_with_one_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DESCRIBED, "--speed", "100", "--traffic", "250"]) == 1
    assert "IT CAN NOT KEEP UP: 2.50 times what it can do; 3 devices would keep up" in capsys.readouterr().out


def test_json_is_all_that_stands_on_standard_output(teacher: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--measure", teacher, "--memory-gb", "1", "--traffic", "0.01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["good"]
    assert told["teacher"]["columns"] == 6
    assert told["examples_per_s"] > 100
    assert told["steps"][0]["name"] == "tables"
    assert told["torchrec"]["asked"] is False


def test_a_link_makes_spread_rows_slower(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)  # it takes seconds
    assert main([*SPREAD, "2", "--link-gb-per-s", "1e-6"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spread"]
    assert told["examples_per_s"] == pytest.approx(4 / (1 / 9 + 4 * 128 * 4 * 0.75 / 1e3))


def test_speed_follows_from_rates(capsys: pytest.CaptureFixture[str]) -> None:
    rates = ["--flops-per-s", "1e9", "--gather-gb-per-s", "1", "--link-gb-per-s", "1"]
    assert main([*DESCRIBED, *rates, "--traffic", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples_per_s"] == pytest.approx(1 / (1e-3 + 180e-9))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--memory-gb", "1", "--traffic", "5"], "plan: --measure or --teacher names a checkpoint, or --rows"),
        ([*DESCRIBED, "--traffic", "5"], "plan: how fast is a device? --measure, --speed, or --flops-per-s"),
        ([*SPREAD, "2"], "plan: the rows must be spread over the devices: how fast is the link between them? --link-"),
        (["plan", "--teacher", "/nowhere.pt", "--memory-gb", "1", "--traffic", "5"], "/nowhere.pt: not a readable"),
    ],
)
def test_what_can_not_be_planned_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_without_torchrec_the_planner_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    size = TeacherSize(1000, 8, 5, 1, 1e6)
    answer = ask_torchrec(size, Cluster(2, 1e9), "cpu")
    assert (answer.asked, answer.fits) == (False, None)
    assert "pip install --no-deps torchrec" in answer.said
    assert not ask_torchrec(TeacherSize(1000, 8, 5, 1, 1e6, weight_bytes=3), Cluster(2, 1e9), "cpu").asked


def test_torchrecs_planner_is_asked_where_it_is_installed(tmp_path: Path) -> None:
    if find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    asked = [*SPREAD[:-1], "--link-gb-per-s", "1", SPREAD[-1]]
    run_ranks(1, annotate_into, tmp_path / "much", [*asked, "2"])
    run_ranks(1, annotate_into, tmp_path / "little", [*asked, "0.9"])
    much, little = (json.loads((tmp_path / name).read_text()) for name in ("much", "little"))
    assert (much["fits"], much["torchrec"]["fits"]) == (True, True)
    assert much["torchrec"]["said"] == "4 tables row-wise over 4 devices"
    assert (little["fits"], little["torchrec"]["fits"]) == (False, False)
    assert little["torchrec"]["said"].startswith("no plan: ")
