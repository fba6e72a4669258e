"""Who goes first when there isn't room for all."""

from enum import IntEnum


class Priority(IntEnum):
    """What a request is for; the lower number goes first.

    LIVE: an auction waits for the answer. NORMAL: somebody waits, but no auction. SHADOW: nobody waits, such as the
    mirrored traffic of a model under trial.
    """

    LIVE = 0
    NORMAL = 1
    SHADOW = 2


ORDER = tuple(Priority)
"""The first to go first. To walk along the enum itself costs ten times as much, too much for each request."""
