"""What one process owes of a run and what became of it, in counts that add up over processes and machines."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.driving.target import Reply
from loadtest.swarm.stages import Stages
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.tally import Tally

MOST_VERSIONS = 40
"""While a version is replaced, answers of both come in turn; more changes than these are not kept."""


@dataclass
class Part:
    """Counts of a process's requests.

    Attributes:
        budget_s: what each request had.
        slice_s: width of a slice of the timeline.
        owed: requests of its schedules; a part is whole when as many were sent and ended.
        zero_unix_s: the run's zero by the time of day.
        cpu_share: CPU seconds over wall seconds of the process's busiest second.
        slices: by their number from the run's start.
        loads: by the load that was offered, see `Loads`.
        kinds: latencies by tier or what came instead.
        versions: instant and number of each model version other than the one before, by time.
    """

    budget_s: float
    slice_s: float
    owed: int = 0
    zero_unix_s: float = float("inf")
    cpu_share: float = 0.0
    slices: dict[int, Tally] = field(default_factory=dict)
    loads: dict[int, Tally] = field(default_factory=dict)
    kinds: dict[str, Latencies] = field(default_factory=lambda: defaultdict(Latencies))
    stages: Stages = field(default_factory=Stages)
    versions: list[tuple[float, int]] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Requests that were sent and have ended."""
        return sum(tally.offered for tally in self.slices.values())

    def add(self, at_s: float, load: int, reply: Reply, latency_s: float, lateness_s: float) -> None:
        """Count the request that was due `at_s` seconds after the run's zero, under that load."""
        self._of(self.slices, int(at_s / self.slice_s)).add(reply, latency_s, lateness_s)
        self._of(self.loads, load).add(reply, latency_s, lateness_s)
        self.kinds[reply.tier].add([latency_s])
        self.stages.add(reply, latency_s)
        if reply.version > 0:
            self._see(at_s, reply.version)

    def merge(self, other: "Part") -> None:
        """Count all of another's, too."""
        self.owed += other.owed
        self.zero_unix_s = min(self.zero_unix_s, other.zero_unix_s)
        self.cpu_share = max(self.cpu_share, other.cpu_share)
        for ours, theirs in ((self.slices, other.slices), (self.loads, other.loads)):
            for number, tally in theirs.items():
                self._of(ours, number).merge(tally)
        for name, latencies in other.kinds.items():
            self.kinds[name].merge(latencies)
        self.stages.merge(other.stages)
        seen, self.versions = sorted([*self.versions, *other.versions]), []
        for at_s, version in seen:
            self._see(at_s, version)

    def tally(self) -> Tally:
        """All of its requests."""
        total = Tally(self.budget_s)
        for tally in self.slices.values():
            total.merge(tally)
        total.cpu_share = self.cpu_share
        return total

    def plain(self) -> dict[str, Any]:
        """As values for msgpack; `from_plain` reads them back."""
        return {
            **{name: getattr(self, name) for name in ("budget_s", "slice_s", "owed", "zero_unix_s", "cpu_share")},
            "slices": [(number, tally.plain()) for number, tally in self.slices.items()],
            "loads": [(number, tally.plain()) for number, tally in self.loads.items()],
            "kinds": {str(name): latencies.encoded() for name, latencies in self.kinds.items()},
            "stages": self.stages.plain(),
            "versions": [*self.versions],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Part":
        """What `plain` gave; `ValueError` or `KeyError` for anything else."""
        made = cls(plain["budget_s"], plain["slice_s"], plain["owed"], plain["zero_unix_s"], plain["cpu_share"])
        made.slices, made.loads = (
            {number: Tally.from_plain(tally) for number, tally in plain[name]} for name in ("slices", "loads")
        )
        made.kinds.update({name: Latencies(encoded=text) for name, text in plain["kinds"].items()})
        made.stages = Stages.from_plain(plain["stages"])
        made.versions = [(at_s, version) for at_s, version in plain["versions"]]
        return made

    def _of(self, tallies: dict[int, Tally], number: int) -> Tally:
        if number not in tallies:
            tallies[number] = Tally(self.budget_s)
        return tallies[number]

    def _see(self, at_s: float, version: int) -> None:
        last = self.versions[-1][1] if self.versions else 0
        if version != last and len(self.versions) < MOST_VERSIONS:
            self.versions.append((at_s, version))
