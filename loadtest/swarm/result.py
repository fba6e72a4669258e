"""What a locust run leaves behind: the verdict over all processes, as lines, JSON and a page."""

import json
import math
from pathlib import Path
from typing import Any

from loadtest.driving.conditions import conditions
from loadtest.report.document import FORMAT_VERSION, curve, figures_plain, generator_plain
from loadtest.report.text import said_of_generator, summary
from loadtest.swarm.engine import Engine
from loadtest.verdict.judge import Limits, Verdict, faults_of_generator, judge
from loadtest.verdict.objectives import Objective, load, usual
from loadtest.verdict.tally import Tally

DEVIATIONS = 6.0
"""By so many standard deviations fewer or more requests than due are no chance of a Poisson process."""


def objectives_of(options: Any, budget_s: float) -> tuple[Objective, ...]:
    """Those of the file that was given, or the usual ones; `ObjectivesError` for a file that holds none."""
    return load(Path(options.objectives)) if options.objectives else usual(budget_s)


def verdict_of(options: Any, total: Tally, expected: float) -> Verdict:
    """On all requests of all processes.

    Args:
        options: locust's.
        total: what all processes have counted.
        expected: how many requests were due on average.
    """
    invalid = faults_of_generator(total, Limits(sent_late_share=options.max_sent_late))
    if not total.offered:
        return Verdict((), invalid)
    off = total.offered - expected
    if abs(off) > DEVIATIONS * math.sqrt(expected):
        why = "a process ended early or never began" if off < 0 else "a process joined after the others had begun"
        invalid = (*invalid, f"{total.offered:,} requests were sent of about {expected:,.0f}: {why}")
    return judge(total.figures(), objectives_of(options, total.budget_s), invalid)


def lines_of(options: Any, total: Tally, verdict: Verdict) -> list[str]:
    """The verdict for people."""
    said = [*(check.line() for check in verdict.checks), *verdict.invalid, f"verdict: {verdict.word}"]
    if not total.offered:
        return said
    return [*summary(total, options.seconds).splitlines(), said_of_generator(generator_plain(total)), *said]


def write(path: Path, options: Any, engine: Engine, total: Tally, verdict: Verdict) -> None:
    """The result as JSON, and beside it the page, with the ending `.html`."""
    # Only who writes a page pays for the plots' library, no worker does.
    from loadtest.report.page import page  # noqa: PLC0415

    document = _document(options, engine, total, verdict)
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")
    path.with_suffix(".html").write_text(page(document), encoding="utf-8")


def _document(options: Any, engine: Engine, total: Tally, verdict: Verdict) -> dict[str, Any]:
    facts = {
        "target": engine.address,
        "vertical": engine.workload.vertical,
        "budget_ms": engine.budget_s * 1e3,
        "timeout_ms": engine.timeout_s * 1e3,
        "shape": options.shape,
        "rate_rps": options.rate,
        "candidates": options.candidates,
        "seed": options.seed,
        "streams": engine.streams,
        "requests_of": engine.workload.origin,
        "workload_sha256": engine.workload.digest,
        **conditions(),
    }
    made = {"kind": "locust", "format_version": FORMAT_VERSION, **verdict.plain(), "conditions": facts, "events": []}
    if total.offered:
        made |= {"figures": figures_plain(total, options.seconds), "generator": generator_plain(total)}
        made |= {"curve": curve(total.latencies)}
    return {**made, "seconds": options.seconds, "tally": total.plain()}
