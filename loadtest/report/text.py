"""A run in a few lines of text."""

from collections.abc import Mapping
from typing import Any

from loadtest.verdict.tally import Tally


def summary(tally: Tally, seconds: float) -> str:
    """One drive in two lines."""
    shares = ", ".join(f"{name} {count / tally.offered:.2%}" for name, count in tally.tiers.most_common())
    figures = tally.figures()
    return (
        f"{tally.offered:,} requests in {seconds:g} s, {tally.in_time / seconds:.1f}/s answered in time; {shares}\n"
        f"p50 {figures['p50_ms'].value:.2f} ms, p99 {figures['p99_ms'].value:.2f} ms, "
        f"p99.9 {figures['p999_ms'].value:.2f} ms, from the scheduled instant"
    )


def said_of_generator(generator: Mapping[str, Any]) -> str:
    """One line on how the generator itself did, from what `generator_plain` made."""
    return (
        f"generator: {generator['sent_late_share']:.2%} sent late, p99 of lateness "
        f"{generator['sent_late_p99_ms']:.2f} ms, {generator['cpu_share']:.0%} of its core"
    )
