"""The ways in which a ranking server is asked."""

from loadtest.driving.rank_target import RankTarget
from loadtest.driving.stream_target import StreamTarget
from loadtest.workload.asked import Workload

TARGETS = {"rank": RankTarget, "stream": StreamTarget}


def target_by(call: str, address: str, workload: Workload, connections: int) -> RankTarget:
    """What asks a server by a call per request (rank) or over a stream per connection (stream)."""
    return TARGETS[call](address, workload, connections)
