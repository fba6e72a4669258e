"""What a locust run leaves behind: the verdict over all processes, as lines, JSON and a page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.report.document import generator_plain
from loadtest.report.text import said_of_generator, summary
from loadtest.swarm.engine import Engine
from loadtest.swarm.part import Part
from loadtest.swarm.roll import Roll
from loadtest.verdict.judge import Limits, Verdict, faults_of_generator, judge
from loadtest.verdict.objectives import Objective, load, usual
from loadtest.verdict.tally import Tally


def objectives_of(options: Any, budget_s: float) -> tuple[Objective, ...]:
    """Those of the file that was given, or the usual ones; `ObjectivesError` for a file that holds none."""
    return load(Path(options.objectives)) if options.objectives else usual(budget_s)


def verdict_of(options: Any, total: Tally, faults: Sequence[str]) -> Verdict:
    """On all requests of all processes.

    Args:
        options: locust's.
        total: what all processes have counted.
        faults: why the load was not what it says, see `Roll.faults`.
    """
    limits = Limits(sent_late_share=options.max_sent_late, cpu_share=options.max_generator_cpu)
    invalid = (*faults_of_generator(total, limits), *faults)
    if not total.offered:
        return Verdict((), invalid)
    return judge(total.figures(), objectives_of(options, total.budget_s), invalid)


def lines_of(options: Any, total: Tally, verdict: Verdict) -> list[str]:
    """The verdict for people."""
    said = [*(check.line() for check in verdict.checks), *verdict.invalid, f"verdict: {verdict.word}"]
    if not total.offered:
        return said
    return [*summary(total, options.seconds).splitlines(), said_of_generator(generator_plain(total)), *said]


def judged(options: Any, engine: Engine, roll: Roll) -> tuple[Part, Verdict]:
    """All parts of a run together, and the verdict on them."""
    total = roll.total(engine.empty())
    return total, verdict_of(options, total.tally(), roll.faults())


def write(path: Path, made: Mapping[str, Any]) -> None:
    """A result document as JSON, and beside it its page, with the ending `.html`."""
    # Only who writes a page pays for the plots' library, no worker does.
    from loadtest.report.page import page  # noqa: PLC0415

    path.write_text(json.dumps(made) + "\n", encoding="utf-8")
    path.with_suffix(".html").write_text(page(made), encoding="utf-8")
