"""The demo's results as a person wants to see them."""

import math
from collections.abc import Mapping
from typing import Any

from demo.requests import Request
from exfm.distill.scoring import TrainingReport
from loadtest.verdict.summary import Summary
from serving.client import Ranking

SHOWN = 10
SHOWN_BEYOND = 12
"""Places after the first ones are listed where the user really saw the ad, so many at most."""


def learning_table(report: TrainingReport) -> str:
    """Each vertical's student on the last day, beside the one without a teacher and the teacher itself."""
    bayes = any(each.bayes_ne is not None for tasks in report.verticals.values() for each in tasks.values())
    head = f"{'vertical':<16}{'task':<12}{'AUC':>8}{'no distill':>12}{'teacher':>9}{'lite':>8}"
    head += f"{'NE':>9}{'no distill':>12}{'teacher':>9}{'lite':>8}{'calibration':>13}"
    lines = [
        "Learning, last day, every row predicted before it was learned:",
        head + (f"{'Bayes NE':>10}" if bayes else ""),
    ]
    for name, tasks in report.verticals.items():
        for task, each in tasks.items():
            aucs = f"{_cell(each.auc):>8}{_cell(each.auc_no_distill):>12}{_cell(each.teacher_auc):>9}"
            aucs += f"{_cell(each.lite_auc):>8}"
            nes = f"{_cell(each.ne):>9}{_cell(each.ne_no_distill):>12}{_cell(each.teacher_ne):>9}"
            nes += f"{_cell(each.lite_ne):>8}"
            last = f"{_cell(each.bayes_ne):>10}" if bayes else ""
            lines.append(f"{name:<16}{task:<12}{aucs}{nes}{_cell(each.calibration):>13}{last}")
    return "\n".join(lines)


def ranked_list(request: Request, ranking: Ranking) -> str:
    """The first places of one ranking, with what the user did with the ads that were really shown."""
    task = next(iter(ranking.probabilities))
    did = {int(ad): bool(label) for ad, label in zip(request.ads, request.outcomes, strict=False)}
    bids = {int(ad): float(bid) for ad, bid in zip(request.ads, request.bids, strict=True)}
    stages = "  ".join(f"{name} {spent:.2f}" for name, spent in ranking.stages_ms.items())
    lines = [
        f"{request.vertical}: user {request.user}, {len(request.ads)} candidates, tier {ranking.tier.name.lower()}, "
        f"model version {ranking.model_version}",
        f"  budget {ranking.budget_ms:.1f} ms, spent {ranking.spent_ms:.2f} ms: {stages}",
        f"  {'place':>5} {'ad':>20} {'p(' + task + ')':>16} {'bid':>7} {'value':>8}  really shown",
    ]
    places = list(enumerate(ranking.ads, 1))
    beyond = [(place, ad) for place, ad in places[SHOWN:] if int(ad.ad_id) in did]
    for place, ad in (*places[:SHOWN], *beyond[:SHOWN_BEYOND]):
        key = int(ad.ad_id)
        seen = ("yes, " + ("positive" if did[key] else "negative")) if key in did else ""
        figures = f"{ad.probability[task]:>16.4f} {bids[key]:>7.3f} {ad.expected_value:>8.4f}"
        lines.append(f"  {place:>5} {key:>20} {figures}  {seen}")
    if len(beyond) > SHOWN_BEYOND:
        lines.append(f"  and {len(beyond) - SHOWN_BEYOND} more that were really shown, further down")
    return "\n".join(lines)


def latency_line(
    summary: Summary, rate_rps: float, served_auc: Mapping[str, float], budgets_ms: Mapping[str, float]
) -> str:
    """The replay held against the budgets, by vertical."""
    tiers = ", ".join(f"{tier} {share:.2%}" for tier, share in summary.by_tier.items())
    aucs = ", ".join(f"{name} {_cell(None if math.isnan(auc) else auc)}" for name, auc in served_auc.items())
    own = ", ".join(f"{name} {budget_ms:g} ms" for name, budget_ms in budgets_ms.items())
    budget = f"{summary.budget_ms:g} ms" if len(set(budgets_ms.values())) == 1 else f"their vertical's budget ({own})"
    return (
        f"Serving: {summary.requests} requests at {rate_rps:g}/s (Poisson, latency from the scheduled send): "
        f"p50 {summary.p50_ms:.2f} ms, p99 {summary.p99_ms:.2f} ms, {summary.within_budget:.2%} within "
        f"{budget}; {tiers}\nAUC of the served probabilities on exposures held out: {aucs}"
    )


def loop_lines(loop: Mapping[str, Any]) -> str:
    """What the loop made of what was served; `loop` as in `summary.json`."""
    versions = ", ".join(f"{name} {version}" for name, version in loop["versions"].items())
    share = loop["share_with_history"]
    known = "none of them logged" if share is None else f"{share:.1%} of them with a history"
    lines = [
        "The loop, closed once:",
        f"  served what users really saw: {loop['impressions']:,} impressions logged, "
        f"{loop['outcomes_told']:,} positive outcomes told and acknowledged",
        f"  joined and annotated by {loop['snapshot']}: {loop['examples']:,} examples, "
        f"{loop['joined']:,} of them with their outcome; {loop['users']:,} users with a history",
        f"  refreshed students, with histories, learned {loop['learned']:,} rows of the log and of these: {versions}",
        f"  asked again: {loop['requests']:,} requests, {known}, "
        f"{loop['within_budget']:.2%} within budget, p99 {loop['p99_ms']:.2f} ms",
    ]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
