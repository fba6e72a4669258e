"""Ways to spoil a sound request of 5 candidates to feed_click, and what the refusal says (a regular expression)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from serving.rpc.pb import ranking_pb2 as pb

Change = Callable[[pb.RankRequest], Any]


def _numbers(value: float) -> Change:
    def change(message: pb.RankRequest) -> None:
        values = np.frombuffer(message.ads.numbers, "<f4").copy()
        values[2] = value
        message.ads.numbers = values.tobytes()

    return change


BAD: dict[str, tuple[Change, str]] = {
    "no candidates": (lambda m: m.ClearField("ad_ids"), "0 candidates; feed_click takes 1 to 500"),
    "too many": (lambda m: m.ad_ids.extend(range(600)), "605 candidates; feed_click takes 1 to 500"),
    "one ad too few": (lambda m: m.ad_ids.pop(), r"block ads.ids: expected 4 x 16 = 64 bytes, got 80"),
    "no user": (lambda m: m.ClearField("user"), r"block user.ids: expected 1 x 16 = 16 bytes, got 0"),
    "half a context": (
        lambda m: setattr(m.context, "numbers", b"\0\0"),
        r"block context.numbers: expected 1 x 4 = 4 bytes, got 2",
    ),
    "a block of other size": (
        lambda m: setattr(m.ads, "numbers", b"\0" * 24),
        r"block ads.numbers: expected 5 x 4 = 20 bytes, got 24",
    ),
    "nan": (_numbers(float("nan")), "block ads.numbers: feature 'length' in row 2 is nan, not a finite number"),
    "infinity": (_numbers(float("-inf")), "feature 'length' in row 2 is -inf"),
    "too few bids": (lambda m: m.bids.pop(), "4 bids for 5 candidates"),
    "negative bid": (lambda m: m.bids.__setitem__(3, -1.0), "bids: row 3 is -1.0, not a finite number >= 0"),
    "infinite bid": (lambda m: m.bids.__setitem__(0, float("inf")), "bids: row 0 is inf"),
    "nan bid": (lambda m: m.bids.__setitem__(0, float("nan")), "bids: row 0 is nan"),
    "long id": (lambda m: setattr(m, "request_id", "x" * 257), "request_id is longer than 256 bytes"),
}
