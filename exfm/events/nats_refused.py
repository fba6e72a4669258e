"""What JetStream refuses for good, told from what may be over at the next try."""

from nats.errors import Error
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError

from exfm.events.nats_url import NatsPlace

TOO_LARGE = 10054
"""JetStream's code for a message above the stream's `max_msg_size`."""
_BAD_REQUEST = 400
_TICK_S = 1e-6
"""The server counts whole nanoseconds."""
_FOR_GOOD = {
    10028: "memory",
    10039: "JetStream is off for the account",
    10047: "storage",
    10052: "a setting",
    10074: "replicas without a cluster",
    10120: "the account has no limits",
}
"""JetStream's codes of refusals that are not bad requests; missing peers (10005) are none, they may only be down."""


def for_good(error: Error) -> bool:
    """Whether making or opening a stream or bucket will end so again: overlapping subjects, a name in use, limits."""
    if isinstance(error, APIError):
        return error.code == _BAD_REQUEST or error.err_code in _FOR_GOOD
    return "authorization" in str(error).lower()


def unfit(place: NatsPlace, there: StreamConfig) -> str:
    """Why the stream that is there can't be the log; empty if it can."""
    replicas = there.num_replicas or 1
    if place.replicas not in (0, replicas):
        return f"stream {place.stream!r} has {replicas} replicas; replicas={place.replicas} was asked"
    limits = [there.max_bytes or 0, there.max_msgs or 0, there.max_msgs_per_subject]
    age_s, window_s = there.max_age or 0.0, there.duplicate_window or 0.0
    too_short = window_s < place.window_s - _TICK_S
    forgets = max(limits) > 0 and there.discard != DiscardPolicy.NEW
    wanted = (
        ("subjects", f"{place.stream}.*" in (there.subjects or []), f"without {place.stream}.*"),
        ("allow_direct", bool(there.allow_direct), "off"),
        ("retention", there.retention in (None, RetentionPolicy.LIMITS), "not limits: the read is forgotten"),
        ("discard", not forgets, "old, which drops the unread at its limit"),
        ("max_age", not age_s, f"{age_s:g} s, after which the unread is dropped"),
        ("duplicate_window", not too_short, f"{window_s:g} s, below window_s={place.window_s:g}"),
        ("storage", there.storage in (None, StorageType.FILE), "memory, which a restart empties"),
        ("no_ack", not there.no_ack, "on"),
        ("sealed", not there.sealed, "on"),
    )
    wrong = [f"{name} is {said}" for name, fits, said in wanted if not fits]
    return f"there is a stream {place.stream!r}, but it was not made for this: {', '.join(wrong)}" if wrong else ""
