"""The bench's result as text."""

from collections.abc import Iterator
from typing import Any

from exporter.engines.recipes import RECIPES

PARITY, RATIO, NE_GAP, NE_LOSS, RELOAD = 1e-5, 0.5, 1e-3, 2e-4, 1.1
"""What is promised: of fp32, absolute; of the student's time over the naive one's; of its NE over the naive one's, less
one; of an engine that may serve; of p99 during a reload over p99 outside."""


def table(result: dict[str, Any]) -> str:
    """Engines, then every promise with what was measured."""
    lines = [f"{'engine':<16}{'candidates':>11}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}{'NE loss':>11}  may serve"]
    for row in result.get("engines", ()):
        times = f"{row['candidates']:>11}{row['p50_ms']:>9.3f}{row['p99_ms']:>9.3f}{row['ratio_naive']:>8.3f}"
        lines.append(
            f"{row['engine']:<16}{times}{row['ne_loss']:>11.1e}  {'yes' if row['accepted'] else row['reason']}"
        )
    lines += [f"{engine:<16} not run: {reason}" for engine, reason in result.get("not_run", {}).items()]
    lines.append("")
    lines += [f"{'ok    ' if met else 'MISSED'} {text}" for text, met in checks(result)]
    return "\n".join(lines)


def checks(result: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Every promise that something was measured for, and whether it was kept."""
    if "chosen" in result:
        losses = [row["ne_loss"] for row in result["engines"] if row["engine"] == result["chosen"]]
        yield (
            f"NE loss of {result['chosen']}, the chosen engine: {max(losses):.2e} <= {NE_LOSS:g}",
            max(losses) <= NE_LOSS,
        )
    if "student_vs_naive" in result:
        against = result["student_vs_naive"]
        for size in ("200", "1000"):
            yield f"time over the naive student's at {size}: {against[size]:.3f} <= {RATIO}", against[size] <= RATIO
        yield f"NE over the naive student's: {against['ne_gap']:+.3%} <= {NE_GAP:.1%}", against["ne_gap"] <= NE_GAP
    if "parity_max_abs" in result:
        off = result["parity_max_abs"]
        yield f"torch to Triton in fp32: {off:.2e} <= {PARITY:g}", off <= PARITY
    for engine, off in result.get("parity", {}).items():
        bound = RECIPES[engine].bound
        yield f"torch to Triton with {engine}: {off:.2e} <= {bound:g}", off <= bound
    if "kill" in result:
        bad = result["kill"]["bad_versions"]
        yield f"bad versions after {result['kill']['rounds']} kills: {bad} <= 0", bad == 0
    if "reload" in result:
        ratio, failed = result["reload"]["p99_ratio"], result["reload"]["failed"]
        yield f"p99 while reloading: {ratio:.2f} <= {RELOAD}; failed: {failed} <= 0", ratio <= RELOAD and failed == 0
