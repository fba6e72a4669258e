import re
from html import unescape
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from loadtest.commands.overload import table
from loadtest.driving.target import Reply
from loadtest.report import plots
from loadtest.report.document import FORMAT_VERSION, curve, figures_plain
from loadtest.report.headline import headline
from loadtest.report.page import page
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.tally import Tally

EVIL = "<script>alert(\"$x_1$\")</script> & 'more'"


GENERATOR = {
    "sent_late_share": 0.0,
    "sent_late_p50_ms": 0.05,
    "sent_late_p99_ms": 0.1,
    "cpu_share": 0.3,
    "cpu_peak": 0.41,
    "others_cpu_s": 12.34,
}


def document(**more: object) -> dict[str, object]:
    interval = {"value": 1.0, "low": 0.5, "high": None}
    slices = [{"at_s": i, "seconds": 1.0, "offered": 9, "late": 0, "tiers": {"full": 8, EVIL: 1}} for i in range(3)]
    return {
        "kind": "run",
        "format_version": FORMAT_VERSION,
        "verdict": "fail",
        "invalid": [EVIL],
        "checks": [{"name": "p99_ms", "bound": 25.0, "at_least": False, "met": False, "sure": False, **interval}],
        "conditions": {
            "vertical": EVIL,
            "target": EVIL,
            "budget_ms": 25.0,
            "versions": {"grpcio": EVIL},
            "tiers": [1, 2],
        },
        "figures": {
            "offered": 27,
            "offered_rps": 9.0,
            "goodput_rps": 8.0,
            "full_goodput_rps": 8.0,
            "tiers": {"full": 0.9, EVIL: 0.1},
            "errors": {EVIL: 3},
        },
        "generator": GENERATOR,
        "curve": curve(Latencies([0.001 * i for i in range(1, 500)])),
        "timeline": [{**each, "p50_ms": 1.0, "p99_ms": 2.0} for each in slices],
        "ledger": {EVIL: {"mean_ms": 1.0, "p99_ms": 2.0, "budget_share": 0.1, "answers": 9}},
        "events": [{"at_s": 1.0, "label": EVIL}],
        **more,
    }


def test_one_page_holds_all_and_loads_nothing() -> None:
    text = page(document())
    assert text.count("<svg") == 4
    assert not re.search(r"(src|href)=[\"']?(https?:|//|/)", text.replace("xlink:href", "x"))
    assert "<script" not in text
    for word in ("late", "goodput", "What the words mean", "Conditions", "grpcio", "not met", "too small to be sure"):
        assert word in text.lower() or word in text


def test_no_text_from_outside_becomes_markup() -> None:
    seen: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            del attrs
            seen.append(tag)

    text = page(document())
    Tags().feed(text)
    assert "script" not in seen
    assert "&lt;script&gt;" in text


def test_a_sweep_is_drawn_with_its_knee() -> None:
    sweep = [
        {
            "offered_rps": x,
            "goodput_rps": min(x, 90.0),
            "full_goodput_rps": min(x, 80.0),
            "late_share": 0.0,
            "p99_ms": 9.0,
            "p99_cut": x > 100,
        }
        for x in (50.0, 100.0, 200.0)
    ]
    told: list[dict[str, Any]] = [{**each, "said": f"{index}x"} for index, each in enumerate(sweep)]
    text = page(document(kind="overload", sweep=told, knee_rps=100.0))
    assert text.count("<svg") == 5
    assert "knee 100/s" in text
    assert text.count("&gt;= 9.00") == 1
    assert table(told).count("9.00, cut at the deadline") == 1


def test_a_soak_shows_its_memory_and_which_part_a_plot_is_of() -> None:
    drift = {"value": 1.25, "low": 1.0, "high": 1.5}
    figures = {**cast("dict[str, Any]", document()["figures"]), "p99_drift": drift}
    more = {"rss_mb": [100.0, 101.0, 102.0], "last_of": "the last window", "whole_timeline": True, "figures": figures}
    text = page(document(kind="soak", **more))
    assert text.count("<svg") == 5
    assert "MB resident" in text
    assert text.count("Of the last window.") == 1  # the ledger; the plots over time show all
    assert "p99_drift" in text


def test_percentiles_stand_beside_each_tier() -> None:
    by_tier = {"full": {"p50_ms": 4.5, "p99_ms": 7.25}, EVIL: {"p50_ms": 24.0, "p99_ms": 25.0}}
    text = page(document(by_tier=by_tier))
    assert "7.25" in text
    assert "25.00" in text


def test_what_happened_outside_the_run_does_not_stretch_the_plots() -> None:
    inside = [{"at_s": 1.0, "label": "reload"}]
    outside = [{"at_s": -3600.0, "label": "long before"}, {"at_s": 3600.0, "label": "long after"}]
    slices = document()["timeline"]
    assert "reload" in plots.tiers_over_time(slices, inside)  # type: ignore[arg-type]
    assert plots.tiers_over_time(slices, outside) == plots.tiers_over_time(slices, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("latencies", [[0.001], [0.001, 0.002]])
def test_a_tiny_run_has_a_page_too(latencies: list[float]) -> None:
    assert "<svg" in page(document(curve=curve(Latencies(latencies))))


@pytest.mark.parametrize(
    ("bounds", "any_tier", "said"),
    [
        ((180.0, 210.0), False, "by the full tier.*180.0/s holds and\n210.0/s does not"),
        ((None, None), True, "by any tier.*no rate holds and\nno rate that was tried above it fails"),
    ],
)
def test_a_capacity_stands_with_its_bounds(bounds: tuple[float | None, ...], any_tier: bool, said: str) -> None:
    plain: dict[str, Any] = {"capacity_rps": 200.0, "curve": None, "timeline": None, "ledger": None}
    found = document(**plain, kind="capacity", capacity_interval_rps=bounds)
    found["conditions"] = {"vertical": "v", "target": "t", "budget_ms": 25.0, "any_tier": any_tier}
    text = page(found)
    assert "Capacity: <b>200.0</b>" in text
    assert re.search(said, text, re.DOTALL)
    assert "1x is 200.0 requests per second" in page(document(**plain, kind="overload"))


def test_the_first_line_says_load_and_percentiles() -> None:
    tally = Tally(0.025)
    for at in range(200):
        tally.add(Reply(at < 190, "full" if at < 190 else "unanswered"), 0.004 if at < 190 else 0.025, 0.0)
    figures = figures_plain(tally, 2.0)
    facts = {"vertical": "v", "target": "t", "budget_ms": 25.0, "shape": "steady", "rate_rps": 100.0, "candidates": 200}
    check = {"name": "p99_ms", "bound": 25.0, "at_least": False, "met": False, "sure": False}
    share = {"name": "late_share", "bound": 0.01, "at_least": False, "met": False, "sure": False, "value": 0.13559}
    checks = [{**check, "value": 25.25, "low": 25.2, "high": None}, {**share, "low": 0.1, "high": 0.2}]
    text = page(document(figures=figures, conditions=facts, checks=checks, seconds=2.0, invalid=[]))
    line = unescape(text[text.index('<p class="lead">') + 16 :].partition("</p>")[0])
    assert line.startswith("steady 100/s x 2 s, 200 candidates: p50 4.00 ms, p90 4.00 ms, p99 >= 25.2")
    assert line.count(">= ") == 3  # p99, p99.9 and the maximum
    assert line.endswith("(>=: cut at the deadline)")
    assert "&gt;= 25.25 ms (cut at the deadline)" in text
    assert "13.56 %" in text
    assert "12.3 CPU seconds" in text
    assert "41 % in its busiest second" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"conditions": {"shape": "replay", "speed": 2.0}, "seconds": 3.0}, "replay at 2 times its pace x 3 s"),
        (
            {"conditions": {"candidates": 9}, "of": "the largest load, 4x", "seconds": 15.0},
            "the largest load, 4x, 15 s, 9",
        ),
        ({"conditions": {}}, ""),
    ],
)
def test_any_result_has_a_first_line(more: dict[str, Any], said: str) -> None:
    assert headline(more).startswith(said)


def test_no_label_lies_on_a_legend() -> None:
    svg = plots.latency_curve(curve(Latencies([0.001 * at for at in range(1, 500)])), 25.0)
    places = {text: float(y) for y, text in re.findall(r'<text [^>]* y="([\d.]+)"[^>]*>([^<]+)<', svg)}
    assert places["percentile of requests"] + 9 < places["latency"]
