"""Where every logged impression and outcome is: the books of the asynchronous plane must balance."""

from collections.abc import Iterable, Mapping
from typing import Any

from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR
from exfm.data.commits import Commit
from exfm.events import impression, outcome
from exfm.events.log import EventLog


def accounts(log: EventLog, output: EventLog, joined: Mapping[str, int], commits: Iterable[Commit]) -> dict[str, Any]:
    """The fates of impressions and outcomes, in events.

    Args:
        log: where serving writes.
        output: the join's output.
        joined: `Joiner.accounts()`.
        commits: the stream's.

    Returns:
        Per kind what was logged and what became of it; `unaccounted` is what the fates don't add up to, 0 if all is
        well. `logged` is what the joiner says that it has read, and what it has before it: whether it skipped something
        shows only against the log. Meaningful while neither the joiner nor the annotator is in the middle of a step.
    """
    listed = list(commits)
    unread = log.ahead(impression.TOPIC, joined["impressions_after"]).events
    waiting = output.lag(ANNOTATOR, example.TOPIC)
    seen = {
        "pending": joined["impressions_pending"] + unread,
        "waiting": waiting.events,
        "trained": sum(each.rows for each in listed),
        "dead": joined.get("impressions_dead", 0) + sum(each.dead for each in listed),
        "duplicate": joined.get("impressions_duplicate", 0),
        "stale": joined.get("impressions_stale", 0),
    }
    logged = joined.get("impressions_read", 0) + unread
    outcomes = {name: joined.get(f"outcomes_{name}", 0) for name in ("used", "late", "before", "orphan")}
    outcomes |= {name: joined.get(f"outcomes_{name}", 0) for name in ("duplicate", "dead", "foreign", "unknown_task")}
    unread_outcomes = log.ahead(outcome.TOPIC, joined["outcomes_after"]).events
    outcomes["pending"] = joined["outcomes_pending"] + unread_outcomes
    outcomes_logged = joined.get("outcomes_read", 0) + unread_outcomes
    return {
        "impressions": {"logged": logged, **seen, "unaccounted": logged - sum(seen.values())},
        "outcomes": {"logged": outcomes_logged, **outcomes, "unaccounted": outcomes_logged - sum(outcomes.values())},
        "ahead": joined.get("impressions_ahead", 0),
        "unsaid": sum(each.counts.get("unsaid", 0) for each in listed),
        "oldest_waiting_ms": waiting.oldest_ms,
    }
