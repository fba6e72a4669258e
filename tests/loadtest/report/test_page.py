import re
from html.parser import HTMLParser
from typing import Any

import pytest

from loadtest.commands.overload import table
from loadtest.document import FORMAT_VERSION, curve
from loadtest.latencies import Latencies
from loadtest.report.page import page

EVIL = "<script>alert(\"$x_1$\")</script> & 'more'"


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
        "generator": {"sent_late_share": 0.0, "sent_late_p99_ms": 0.1, "cpu_share": 0.3},
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
        }
        for x in (50.0, 100.0, 200.0)
    ]
    told: list[dict[str, Any]] = [{**each, "said": f"{index}x"} for index, each in enumerate(sweep)]
    text = page(document(kind="overload", sweep=told, knee_rps=100.0))
    assert text.count("<svg") == 5
    assert "knee 100/s" in text
    assert "200.0" in table(told)


@pytest.mark.parametrize("latencies", [[0.001], [0.001, 0.002]])
def test_a_tiny_run_has_a_page_too(latencies: list[float]) -> None:
    assert "<svg" in page(document(curve=curve(Latencies(latencies))))
