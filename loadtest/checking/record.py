"""What became of every request of a run, as columns. Late has one meaning, here.

Late is whatever did not come in time, seen by the caller: a request is late unless a sound answer of any tier, or a
refusal to serve it (shed), was in the generator's hands by its scheduled instant plus the budget. So a call that the
deadline ended is late, a failed one and a wrong answer are, and the generator's own delays make requests late, too.

Latency runs from the scheduled instant. A call without an answer counts with the instant at which it ended, which is
about its deadline: how much later the answer would have come is not known. In every percentile it stands past the
budget, and so does a failed call or a wrong answer, however quick it was.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import BAD, counted_s, late


@dataclass(frozen=True)
class Record:
    """All requests of one run in the order of their schedule.

    Attributes:
        at_s: float64 [N], scheduled instants, seconds from the run's start, increasing.
        latency_s: float64 [N], from the scheduled instant to the end of the call.
        lateness_s: float64 [N], how late the generator was in sending; part of the latency.
        ok: bool [N], a sound answer came.
        tier: str [N], values of `Outcome`: which tier made it, or what came instead.
        version: int64 [N], of the model that answered; 0 where unknown.
        error: N texts, empty where all was well.
        stages_ms: float64 [N] by the ledger's stage; NaN where the answer doesn't say.
    """

    at_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    lateness_s: NDArray[np.float64]
    ok: NDArray[np.bool_]
    tier: NDArray[np.str_]
    version: NDArray[np.int64]
    error: tuple[str, ...]
    stages_ms: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.at_s)

    def late(self, budget_s: float) -> NDArray[np.bool_]:
        """bool [N]: neither a sound answer nor a shed refusal within the budget."""
        return late(self.latency_s, self.tier, budget_s)

    def counted_s(self, budget_s: float) -> NDArray[np.float64]:
        """float64 [N], latencies as percentiles count them; see `outcomes.counted_s`."""
        return counted_s(self.latency_s, self.tier, budget_s)

    def in_time(self, budget_s: float) -> NDArray[np.bool_]:
        """bool [N]: a sound answer within the budget."""
        return self.ok & (self.latency_s <= budget_s)

    def bad(self) -> NDArray[np.bool_]:
        """bool [N]: an error to the caller, in time or not."""
        return np.isin(self.tier, BAD)

    def tiers(self) -> dict[str, float]:
        """Share of all requests by tier or by what came instead; they sum to 1."""
        counted = Counter(self.tier.tolist())
        return {name: counted[name] / len(self) for name in sorted(counted)}

    def errors(self) -> dict[str, int]:
        """How often each text stands among the errors."""
        return dict(Counter(text for text in self.error if text).most_common())

    def between(self, start_s: float, stop_s: float = float("inf")) -> "Record":
        """The requests scheduled from `start_s` on and before `stop_s`."""
        chosen = (self.at_s >= start_s) & (self.at_s < stop_s)
        return Record(
            at_s=self.at_s[chosen],
            latency_s=self.latency_s[chosen],
            lateness_s=self.lateness_s[chosen],
            ok=self.ok[chosen],
            tier=self.tier[chosen],
            version=self.version[chosen],
            error=tuple(text for text, wanted in zip(self.error, chosen, strict=True) if wanted),
            stages_ms={name: column[chosen] for name, column in self.stages_ms.items()},
        )
