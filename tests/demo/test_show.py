import numpy as np

from demo.requests import Request
from demo.show import SHOWN, SHOWN_BEYOND, latency_line, loop_lines, ranked_list
from loadtest.verdict.summary import Summary
from serving.client import Ranking, Tier


def listed(candidates: int, shown: int) -> list[str]:
    """The list for a user who was shown the ads that now come last."""
    keys = np.arange(candidates)[::-1]
    request = Request("feed", 7, {}, keys, np.ones(candidates), np.ones(shown, np.float32))
    p = np.linspace(0.9, 0.1, candidates).tolist()
    ids = list(range(candidates))
    ranking = Ranking("", ids, p, {"click": p}, Tier.FULL, "", 1, 25.0, 2.0, {"score": 2.0}, 0)
    return ranked_list(request, ranking).splitlines()[3:]


def test_the_first_places_and_what_was_shown_are_listed() -> None:
    lines = listed(candidates=50, shown=2)
    assert len(lines) == SHOWN + 2
    assert [line.split()[0] for line in lines[-2:]] == ["49", "50"]
    assert lines[-1].endswith("yes, positive")


def test_a_user_who_saw_much_does_not_fill_the_screen() -> None:
    lines = listed(candidates=50, shown=30)
    assert len(lines) == SHOWN + SHOWN_BEYOND + 1
    assert lines[-1].strip() == f"and {30 - SHOWN_BEYOND} more that were really shown, further down"


def test_budgets_are_named_where_they_differ() -> None:
    summary = Summary(4, 40.0, 5.0, 9.0, 0.75, {"full": 1.0}, 0.1)
    assert "75.00% within 40 ms;" in latency_line(summary, 10, {}, {"a": 40.0, "b": 40.0})
    assert "within their vertical's budget (a 40 ms, b 25 ms);" in latency_line(summary, 10, {}, {"a": 40.0, "b": 25.0})


def test_an_auc_that_is_none_is_a_dash() -> None:
    summary = Summary(4, 40.0, 5.0, 9.0, 0.75, {"full": 1.0}, 0.1)
    assert latency_line(summary, 10, {"a": 0.5, "b": float("nan")}, {"a": 40.0}).endswith("a 0.5000, b -")


def test_the_loop_is_told_in_plain_numbers() -> None:
    loop = {
        "impressions": 1200,
        "outcomes_told": 300,
        "snapshot": "demo-1",
        "examples": 1199,
        "joined": 299,
        "users": 40,
        "learned": 5000,
        "versions": {"feed": 2},
        "requests": 100,
        "share_with_history": 0.5,
        "within_budget": 1.0,
        "p99_ms": 9.0,
    }
    text = loop_lines(loop)
    for figure in ("1,200 impressions", "300 positive", "1,199 examples", "299 of them", "40 users", "feed 2", "50.0%"):
        assert figure in text
    assert "100 requests, none of them logged, 100.00% within" in loop_lines({**loop, "share_with_history": None})
