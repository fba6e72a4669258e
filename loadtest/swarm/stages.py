"""Where the time of many answers went, in counts that add up: a ledger per stage over processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.driving.target import Reply
from loadtest.verdict.latencies import Latencies

OUTSIDE = "outside"
"""What the caller waited beyond the server's stages: network, sockets and the generator."""


@dataclass
class Stage:
    """One stage of the answers that went through it.

    Attributes:
        total_ms: exactly, unlike the histogram.
        times: of each answer.
    """

    total_ms: float = 0.0
    times: Latencies = field(default_factory=Latencies)

    def add(self, time_ms: float) -> None:
        """Enter one answer's."""
        self.total_ms += time_ms
        self.times.add([time_ms / 1e3])

    def merge(self, other: "Stage") -> None:
        """Enter all of another's."""
        self.total_ms += other.total_ms
        self.times.merge(other.times)


@dataclass
class Stages:
    """The ledgers of the answers that tell them, by stage."""

    by_name: dict[str, Stage] = field(default_factory=dict)

    def add(self, reply: Reply, latency_s: float) -> None:
        """Enter one answer's ledger, if it has one."""
        if not reply.stages_ms:
            return
        for name, time_ms in reply.stages_ms.items():
            self._of(name).add(time_ms)
        outside_ms = max(latency_s * 1e3 - sum(reply.stages_ms.values()), 0.0)
        self._of(OUTSIDE).add(outside_ms)

    def merge(self, other: "Stages") -> None:
        """Enter all of another's."""
        for name, stage in other.by_name.items():
            self._of(name).merge(stage)

    def ledger(self, budget_s: float) -> dict[str, dict[str, float]]:
        """As `report.document.ledger`: the mean is over all answers, so a stage that few went through weighs little."""
        if not self.by_name:
            return {}
        answers = len(self.by_name[OUTSIDE].times)
        # The server's own stages first, in the order in which they were seen.
        names = [*(name for name in self.by_name if name != OUTSIDE), OUTSIDE]
        return {name: self._line(name, answers, budget_s) for name in names}

    def plain(self) -> dict[str, Any]:
        """As values for msgpack; `from_plain` reads them back."""
        return {name: [stage.total_ms, stage.times.encoded()] for name, stage in self.by_name.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Stages":
        """What `plain` gave."""
        return cls({name: Stage(total_ms, Latencies(encoded=text)) for name, (total_ms, text) in plain.items()})

    def _of(self, name: str) -> Stage:
        # Not setdefault: a histogram is too dear to be made for nothing.
        if name not in self.by_name:
            self.by_name[name] = Stage()
        return self.by_name[name]

    def _line(self, name: str, answers: int, budget_s: float) -> dict[str, float]:
        stage = self.by_name[name]
        mean_ms = stage.total_ms / answers
        return {
            "mean_ms": mean_ms,
            "p99_ms": stage.times.percentile_ms(99),
            "budget_share": mean_ms / (budget_s * 1e3),
            "answers": len(stage.times),
        }
