"""The comparison: capacity of every system, then goodput at multiples of the best peer's capacity, all in turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.peers.caller import OFF
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.samples import Sample
from loadtest.peers.systems import Running, System
from loadtest.peers.trial import IN_TIME_SHARE, Bench, Trial
from loadtest.peers.turns import Turn, best_of, turns

MULTIPLES = (1, 2, 4)
APART = 2
"""Two answers to one request may each be off by as much as the engine's bound."""

Report = Callable[[str], None]
Advance = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How to compare.

    Attributes:
        seconds: of a goodput run; the probes of the search take a third, its confirmation two thirds, at least.
        repeats: of everything.
        multiples: of the best peer's capacity.
        seed: of the arrivals.
        logs: folder for the systems' output.
    """

    seconds: float
    repeats: int
    multiples: tuple[int, ...]
    seed: int
    logs: Path


class Comparison:
    """Figures as they come; `result` can be read at any time, so a failure loses nothing that was measured."""

    def __init__(
        self,
        systems: Sequence[System],
        samples: Sequence[Sample],
        plan: Plan,
        report: Report,
        make_bench: Callable[..., Bench] = Bench,
    ) -> None:
        self._systems = {system.name: system for system in systems}
        self._samples, self._plan, self._report = samples, plan, report
        self._make_bench = make_bench
        self.result: dict[str, Any] = {
            "versions": {},
            "skipped": {},
            "capacity_rps": {},
            "capacity_at_least": [],
            "goodput_rps": {},
            "full_goodput_rps": {},
            "generator": {},
            "restarts": {},
            "best_peer": None,
            "trials": [],
        }

    @property
    def _left(self) -> list[str]:
        return [name for name in self._systems if name not in self.result["skipped"]]

    def prepare(self, advance: Advance = lambda: None) -> None:
        """Install everything; what can't be installed is skipped, with the reason in the result."""
        for name, system in self._systems.items():
            with self._skipping(name):
                self.result["versions"][name] = system.prepare(self._report)
            advance()

    def run(self, advance: Advance = lambda: None) -> None:
        """Capacities, then goodputs. `advance` is called after each of `steps()` turns."""
        for turn in turns(self._left, self._plan.repeats):
            self._take(turn, self._capacity)
            advance()
        ours = [name for name, system in self._systems.items() if system.ours]
        best = best_of(self.result["capacity_rps"], ours) or best_of(self.result["capacity_rps"], ())
        if best is None:
            self._report("no system has a capacity: nothing to take multiples of")
            return
        self.result["best_peer"] = {"name": best[0], "capacity_rps": best[1], "ours": best[0] in ours}
        for turn in turns(self._left, self._plan.repeats):
            self._take(turn, lambda turn, bench: self._goodput(turn, bench, best[1]))
            advance()

    def steps(self) -> int:
        """How many turns `run` will take if nothing fails."""
        return 2 * len(self._left) * self._plan.repeats

    def _take(self, turn: Turn, step: Callable[[Turn, Bench], None]) -> None:
        if turn.system in self.result["skipped"]:
            return
        system = self._systems[turn.system]
        model, log = system.model, self._plan.logs / f"{turn.system}.log"
        bench = self._make_bench(
            lambda: _started(system, log),
            self._samples,
            model.tasks,
            model.budget_s,
            seed=self._plan.seed,
            off=APART * max(model.golden_bound, OFF),
        )
        with self._skipping(turn.system), bench:
            self.result["versions"].setdefault(turn.system, {}).update(bench.versions)
            step(turn, bench)
            if bench.restarts:
                self.result["restarts"][turn.system] = self.result["restarts"].get(turn.system, 0) + bench.restarts
                self._report(f"{turn.system}: started anew {bench.restarts} times; it did not recover from a load")

    def _capacity(self, turn: Turn, bench: Bench) -> None:
        seconds, earlier = self._plan.seconds, self.result["capacity_rps"].get(turn.system, [])
        capacity_rps, made = bench.capacity(seconds / 3, seconds * 2 / 3, max(earlier, default=0.0))
        for trial in made:
            self._enter(turn, "capacity", None, trial)
        failed = [trial for trial in made if trial.rate_rps > capacity_rps and trial.in_time_share < IN_TIME_SHARE]
        if failed and not min(failed, key=lambda trial: trial.rate_rps).sound:
            self.result["capacity_at_least"].append(turn.system)
        self.result["capacity_rps"][turn.system] = [*earlier, capacity_rps]
        self._report(f"{turn.system}: {capacity_rps:.0f}/s with p99 within the budget")

    def _goodput(self, turn: Turn, bench: Bench, unit_rps: float) -> None:
        for multiple in self._plan.multiples:
            trial = self._tried(turn, bench, multiple, multiple * unit_rps)
            for name in ("goodput_rps", "full_goodput_rps"):
                by_multiple = self.result[name].setdefault(turn.system, {})
                by_multiple.setdefault(f"{multiple}x", []).append(getattr(trial, name))
            self._report(f"{turn.system}: {multiple}x = {trial.rate_rps:.0f}/s, {trial.goodput_rps:.0f}/s good")
            bench.settle()

    def _tried(self, turn: Turn, bench: Bench, multiple: int, rate_rps: float) -> Trial:
        """A drive, the second if the generator spoiled the first; both stand among the trials."""
        trial = bench.trial(rate_rps, self._plan.seconds, turn.repeat)
        if not trial.sound:
            self._enter(turn, "spoiled", multiple, trial)
            bench.settle()
            trial = bench.trial(rate_rps, self._plan.seconds, turn.repeat)
        self._enter(turn, "goodput", multiple, trial)
        return trial

    def _enter(self, turn: Turn, kind: str, multiple: int | None, trial: Trial) -> None:
        where = {"system": turn.system, "repeat": turn.repeat, "kind": kind, "multiple": multiple}
        self.result["trials"].append({**where, **trial.plain()})
        seen = self.result["generator"].setdefault(turn.system, {"drives": 0, "spoiled": 0, "most_cpu_share": 0.0})
        seen["drives"] += 1
        seen["spoiled"] += not trial.sound
        seen["most_cpu_share"] = max(seen["most_cpu_share"], trial.generator_cpu_share)

    @contextmanager
    def _skipping(self, name: str) -> Iterator[None]:
        """A system that can't be measured leaves the comparison; the others go on."""
        try:
            yield
        except (PeerUnavailableError, OSError) as error:
            self.result["skipped"][name] = str(error)
            self._report(f"{name} is skipped: {error}")


@contextmanager
def _started(system: System, log: Path) -> Iterator[Running]:
    """The system, ready; one that doesn't become ready is started once more."""
    with ExitStack() as life:
        try:
            running = life.enter_context(system.running(log))
        except PeerUnavailableError:
            running = life.enter_context(system.running(log))
        yield running
