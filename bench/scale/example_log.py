"""The log that teachers of the bench learn."""

from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source


def simulated(rows: int) -> Source:
    """So many impressions of the simulator, with users and ads in a like measure to them at every size."""
    return Source("simulator", *simulate(0, Scale(rows=rows, users=max(200, rows // 25), ads=max(100, rows // 75))))
