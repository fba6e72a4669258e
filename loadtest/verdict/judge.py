"""Whether a run kept its objectives, and whether it may say so at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.driving.target import median_late_s, sent_late_s
from loadtest.verdict.objectives import Objective, ObjectivesError, shown
from loadtest.verdict.stats import Interval, wilson
from loadtest.verdict.tally import Tally

PASS, FAIL, USAGE, INVALID = 0, 1, 2, 3
"""Exit codes."""
INTERRUPTED = 130
"""The exit code that shells have for it."""
WORDS = {PASS: "pass", FAIL: "fail", INVALID: "invalid"}
SENT_LATE_SHARE = 0.01
"""A run in which the generator sent more than this share late did not offer the load that it says."""
CPU_SHARE = 0.9
"""A generating process that needs more of its one core than this in any second has nothing left to be on time with."""
HALF = 0.5


@dataclass(frozen=True)
class Limits:
    """What makes a run invalid; see the constants above.

    Attributes:
        sent_late_share: who lets half or more of the requests be late doesn't ask for their median either.
        cpu_share: from 1 on there is no limit, as the libraries' threads may have a core of their own.
    """

    sent_late_share: float = SENT_LATE_SHARE
    cpu_share: float = CPU_SHARE


@dataclass(frozen=True)
class Check:
    """One objective held against its figure.

    Attributes:
        met: by the figure itself.
        sure: the whole interval is on the same side of the bound.
    """

    name: str
    figure: Interval
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self._keeps(self.figure.value)

    @property
    def sure(self) -> bool:
        return self._keeps(self.figure.low) == self._keeps(self.figure.high)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        facts = {"name": self.name, "bound": self.bound, "at_least": self.at_least, "met": self.met, "sure": self.sure}
        return {**facts, **self.figure.plain()}

    def line(self) -> str:
        """For people."""
        word = ("met" if self.met else "NOT MET") + ("" if self.sure else ", too few requests to be sure")
        value, low, high, bound = (shown(self.name, each) for each in (*vars(self.figure).values(), self.bound))
        return f"{self.name} {value} [{low} to {high}], bound {'>=' if self.at_least else '<='} {bound}: {word}"

    def _keeps(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Verdict:
    """All checks, and why the run counts for nothing, if it doesn't."""

    checks: tuple[Check, ...]
    invalid: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The exit code: an invalid run neither passes nor fails."""
        return INVALID if self.invalid else PASS if all(check.met for check in self.checks) else FAIL

    @property
    def word(self) -> str:
        """`pass`, `fail` or `invalid`."""
        return WORDS[self.code]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        checks = [check.plain() for check in self.checks]
        return {"verdict": self.word, "exit_code": self.code, "invalid": list(self.invalid), "checks": checks}


def judge(figures: Mapping[str, Interval], objectives: Sequence[Objective], invalid: Sequence[str] = ()) -> Verdict:
    """Hold figures against the objectives that name one of them; the others are another command's.

    Wrong answers fail a run whatever the objectives hold, unless one of them says how many there may be.

    Raises:
        ObjectivesError: no objective names any of the figures, so that nothing could fail.
    """
    named = [objective for objective in objectives if objective.name in figures]
    if not named:
        raise ObjectivesError(f"none of the objectives is measured here; measured are: {', '.join(figures)}")
    wrong = figures.get("wrong_share")
    if wrong is not None and wrong.value > 0 and not any(each.name == "wrong_share" for each in named):
        named.append(Objective("wrong_share", 0.0))
    checks = [Check(each.name, figures[each.name], each.bound, each.at_least) for each in named]
    return Verdict(tuple(checks), tuple(invalid))


def faults_of_generator(tally: Tally, limits: Limits | None = None) -> tuple[str, ...]:
    """Why a run measures its generator rather than the server; empty if it doesn't."""
    limits = limits or Limits()
    if not tally.offered:
        return ("no request was offered",)
    faults = []
    share = wilson(tally.sent_late, tally.offered)
    # One hiccup in a short run is no bottleneck, hence the interval's lower end.
    if share.low > limits.sent_late_share:
        by_ms = sent_late_s(tally.budget_s) * 1e3
        limit = f"limit {limits.sent_late_share:.1%}"
        faults.append(f"the generator sent {share.value:.1%} of the requests {by_ms:g} ms late or more ({limit})")
    median, most_ms = tally.lateness.interval_ms(50), median_late_s(tally.budget_s) * 1e3
    if median.low > most_ms and limits.sent_late_share < HALF:
        limit = f"limit {most_ms:g} ms"
        faults.append(f"the generator sent half of the requests {median.value:.1f} ms late or more ({limit})")
    busiest = max(tally.cpu_share, tally.cpu_peak)
    if busiest > limits.cpu_share and limits.cpu_share < 1:
        faults.append(f"the generator used {busiest:.0%} of its core in a second (limit {limits.cpu_share:.0%})")
    return tuple(faults)
