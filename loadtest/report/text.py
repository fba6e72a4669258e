"""A run in a few lines of text."""

from collections.abc import Mapping
from typing import Any

from loadtest.report.document import figures_plain
from loadtest.report.headline import percentiles_of
from loadtest.verdict.tally import Tally


def summary(tally: Tally, seconds: float) -> str:
    """One drive in two lines."""
    shares = ", ".join(f"{name} {count / tally.offered:.2%}" for name, count in tally.tiers.most_common())
    return (
        f"{tally.offered:,} requests in {seconds:g} s, {tally.in_time / seconds:.1f}/s answered in time; {shares}\n"
        f"from the scheduled instant {percentiles_of(figures_plain(tally, seconds))}"
    )


def said_of_generator(generator: Mapping[str, Any]) -> str:
    """One line on how the generator itself did, from what `generator_plain` made."""
    return (
        f"generator: {generator['sent_late_share']:.2%} sent late, p50 and p99 of lateness "
        f"{generator['sent_late_p50_ms']:.2f} and {generator['sent_late_p99_ms']:.2f} ms, "
        f"{generator['cpu_share']:.0%} of its core, {generator['cpu_peak']:.0%} in its busiest second"
    )
