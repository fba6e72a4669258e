"""Thousands of seeded worlds without a violation, each the same again by its number."""

import json
from random import Random

import pytest

from bench.simulation.__main__ import main
from bench.simulation.plan import Plan
from bench.simulation.runs import run_seeds
from bench.simulation.world import simulate
from serving.budget.estimates import Estimates
from serving.ladder.ladder import Ladder

SEEDS = 2000


@pytest.mark.timeout(300)
def test_no_seed_breaks_an_invariant() -> None:
    report = run_seeds(0, SEEDS, jobs=0, quiet=True)
    assert report["examples"] == []
    assert report["seeds"] == SEEDS
    assert report["steps"] > 100 * SEEDS
    assert report["ends"].keys() == {
        *("full", "trimmed", "lite", "prior"),
        *("door", "shed", "refused", "cancelled"),
    }


def test_a_seed_is_a_world() -> None:
    once, again, other = ((world.steps, world.ends) for world in map(simulate, (11, 11, 12)))
    assert once == again != other


def test_a_seed_is_the_same_world_in_any_process() -> None:
    here, there = (run_seeds(200, 30, jobs=jobs, quiet=True) for jobs in (1, 2))
    assert [here[key] for key in ("steps", "ends")] == [there[key] for key in ("steps", "ends")]


def test_the_plans_draw_every_kind_of_world() -> None:
    plans = [Plan.draw(Random(seed)) for seed in range(200)]
    weathers = [weather for plan in plans for links in plan.weather for weather in links]
    offers = [offer for plan in plans for offer in plan.offers]
    assert {len(plan.lives) for plan in plans} == {len(plan.weather) for plan in plans} == {1, 2, 3}
    assert {len(plan.offers) for plan in plans} == {1, 2}
    assert {plan.law for plan in plans} == {"fixed", "aimd", "gradient"}
    for odd in ("lost", "reset", "cuts", "delay_s", "cancels", "times_out"):
        assert {bool(getattr(weather, odd)) for weather in weathers} == {False, True}
    assert {cut.breaks for weather in weathers for cut in weather.cuts} == {False, True}
    assert {(offer.lite is None, offer.batching is None) for offer in offers} == {
        (lite, single) for lite in (False, True) for single in (False, True)
    }
    assert {bool(plan.callers.crowd) for plan in plans} == {bool(plan.callers.bad) for plan in plans} == {False, True}
    for hurt in (True, False):
        assert {any(life.faults for life in plan.lives) == hurt for plan in plans} == {True, False}
    calm = [
        plan for plan in plans if all(not (w.delay_s or w.lost or w.reset or w.cuts) for w in sum(plan.weather, ()))
    ]
    assert len(calm) > 0.2 * len(plans)


def test_some_overloads_outlast_what_estimates_keep_and_canaries_pause() -> None:
    plans = [Plan.draw(Random(seed)) for seed in range(SEEDS)]
    busy = [plan for plan in plans if plan.seconds > 2 * Estimates.STALE_S and plan.callers.load >= 2]
    assert 5 <= len(busy) <= 30
    assert {plan.callers.load for plan in busy} == {2.0, 5.0, 10.0}
    assert {any(life.faults for life in plan.lives) for plan in busy} == {True, False}
    assert any(plan.seconds > 1.0 for plan in busy)


def test_the_command_plays_one_seed_again_and_shows_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Ladder, "answer", lambda *_: None)
    assert main(["--first", "3", "--seeds", "1", "--plan", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["violations"] == 1
    assert "seed 3: Plan(" in err
    assert "seed 3 at " in err


@pytest.mark.parametrize("wrong", ["0", "-1", "many"])
def test_a_number_of_seeds_that_is_none_is_bad_usage(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--seeds", wrong])
    assert "expected 1 or more" in capsys.readouterr().err
