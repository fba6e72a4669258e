"""The comparison: capacity of every system, then goodput at multiples of the best peer's capacity, all in turns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.peers.bound import bound_of, only_spoiled_below
from loadtest.peers.caller import OFF, Probability
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.known import known_of
from loadtest.peers.model import Model
from loadtest.peers.samples import Sample
from loadtest.peers.stolen import Stolen
from loadtest.peers.systems import Running, System
from loadtest.peers.trial import Bench, Trial
from loadtest.peers.turns import Turn, best_of, turns

MULTIPLES = (1, 2, 4)
APART = 2
"""Two answers to one request may each be off by as much as the engine's bound."""
CAPACITY, GOODPUT, SPOILED, LEFT_OUT = "capacity", "goodput", "spoiled", "left_out"
"""Kinds of trials. The last two are goodput's with the generator as the bottleneck: the one was driven again, the other
was the second and stands in no median."""
KEPT = (
    "versions",
    "skipped",
    "capacity_rps",
    "capacity_below_rps",
    "capacity_at_least",
    "restarts",
    "stolen_share",
    "turns",
)
"""What an earlier result gives to the one that continues it; the rest is made of its trials."""

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
        self._known: dict[Path, list[Probability | None]] = {}
        self.result: dict[str, Any] = {
            "versions": {},
            "skipped": {},
            "capacity_rps": {},
            "capacity_below_rps": {},
            "capacity_at_least": [],
            "goodput_rps": {},
            "full_goodput_rps": {},
            "left_out": {},
            "wrong_answers": {},
            "generator": {},
            "restarts": {},
            "stolen_share": {},
            "best_peer": None,
            "turns": [],
            "trials": [],
        }

    @property
    def _left(self) -> list[str]:
        return [name for name in self._systems if name not in self.result["skipped"]]

    def resume(self, earlier: Mapping[str, Any]) -> None:
        """Go on from a result of the same plan and systems that was cut short; its finished turns stay as they are."""
        self.result |= {key: earlier[key] for key in KEPT}
        for trial in earlier["trials"]:
            kind = CAPACITY if trial["kind"] == CAPACITY else GOODPUT
            if {"kind": kind, "system": trial["system"], "repeat": trial["repeat"]} in earlier["turns"]:
                self._enter(trial)

    def prepare(self, advance: Advance = lambda: None) -> None:
        """Install everything; what can't be installed is skipped, with the reason in the result."""
        for name in self._left:
            system = self._systems[name]
            with self._skipping(name):
                self.result["versions"].setdefault(name, {}).update(system.prepare(self._report))
            advance()

    def run(self, advance: Advance = lambda: None) -> None:
        """Capacities, then goodputs. `advance` is called after each of `steps()` turns."""
        for turn in turns(self._left, self._plan.repeats):
            self._take(CAPACITY, turn, self._capacity)
            advance()
        ours = [name for name, system in self._systems.items() if system.ours]
        best = best_of(self.result["capacity_rps"], ours) or best_of(self.result["capacity_rps"], ())
        if best is None:
            self._report("no system has a capacity: nothing to take multiples of")
            return
        self.result["best_peer"] = {"name": best[0], "capacity_rps": best[1], "ours": best[0] in ours}
        for turn in turns(self._left, self._plan.repeats):
            self._take(GOODPUT, turn, lambda turn, bench: self._goodput(turn, bench, best[1]))
            advance()

    def steps(self) -> int:
        """How many turns `run` will take if nothing fails."""
        return 2 * len(self._left) * self._plan.repeats

    def _take(self, kind: str, turn: Turn, step: Callable[[Turn, Bench], None]) -> None:
        entry = {"kind": kind, "system": turn.system, "repeat": turn.repeat}
        if turn.system in self.result["skipped"] or entry in self.result["turns"]:
            return
        system = self._systems[turn.system]
        model, log = system.model, self._plan.logs / f"{turn.system}.log"
        bench = self._make_bench(
            lambda: started(system, log),
            self._samples,
            model.tasks,
            model.budget_s,
            seed=self._plan.seed,
            off=APART * max(model.golden_bound, OFF),
            known=self._answers(model),
        )
        stolen = Stolen()
        with self._skipping(turn.system), bench:
            self.result["versions"].setdefault(turn.system, {}).update(bench.versions)
            step(turn, bench)
            if bench.restarts:
                self.result["restarts"][turn.system] = self.result["restarts"].get(turn.system, 0) + bench.restarts
                self._report(f"{turn.system}: started anew {bench.restarts} times; it did not recover from a load")
            self.result["stolen_share"].setdefault(turn.system, []).append(stolen.share())
            self.result["turns"].append(entry)

    def _capacity(self, turn: Turn, bench: Bench) -> None:
        seconds, earlier = self._plan.seconds, self.result["capacity_rps"].get(turn.system, [])
        capacity_rps, made = bench.capacity(seconds / 3, seconds * 2 / 3, max(earlier, default=0.0))
        for trial in made:
            self._enter(_entry(turn, CAPACITY, None, trial))
        bound = bound_of(made, capacity_rps)
        spoiled = bound and (not bound.sound or only_spoiled_below(made, capacity_rps, bound.rate_rps))
        if spoiled and turn.system not in self.result["capacity_at_least"]:
            self.result["capacity_at_least"].append(turn.system)
        below_rps = bound.rate_rps if bound and bound.sound else None
        self.result["capacity_below_rps"].setdefault(turn.system, []).append(below_rps)
        self.result["capacity_rps"][turn.system] = [*earlier, capacity_rps]
        self._report(f"{turn.system}: {capacity_rps:.0f}/s with p99 within the budget")

    def _goodput(self, turn: Turn, bench: Bench, unit_rps: float) -> None:
        for multiple in self._plan.multiples:
            trial = self._tried(turn, bench, multiple, multiple * unit_rps)
            self._report(f"{turn.system}: {multiple}x = {trial.rate_rps:.0f}/s, {trial.goodput_rps:.0f}/s good")
            bench.settle()

    def _tried(self, turn: Turn, bench: Bench, multiple: int, rate_rps: float) -> Trial:
        """A drive, the second if the generator spoiled the first; both stand among the trials."""
        trial = bench.trial(rate_rps, self._plan.seconds, turn.repeat)
        if not trial.sound:
            self._enter(_entry(turn, SPOILED, multiple, trial))
            bench.settle()
            trial = bench.trial(rate_rps, self._plan.seconds, turn.repeat)
        self._enter(_entry(turn, GOODPUT if trial.sound else LEFT_OUT, multiple, trial))
        return trial

    def _enter(self, trial: Mapping[str, Any]) -> None:
        """Count one trial, as it stands among the result's."""
        self.result["trials"].append(trial)
        name, at = trial["system"], f"{trial['multiple']}x"
        seen = self.result["generator"].setdefault(name, {"drives": 0, "spoiled": 0, "most_cpu_share": 0.0})
        seen["drives"] += 1
        seen["spoiled"] += not trial["sound"]
        seen["most_cpu_share"] = max(seen["most_cpu_share"], trial["generator_cpu_share"])
        answers = self.result["wrong_answers"].setdefault(name, {"wrong": 0, "offered": 0})
        answers["wrong"] += trial["wrong"]
        answers["offered"] += trial["offered"]
        if trial["kind"] in (GOODPUT, LEFT_OUT):
            for key in ("goodput_rps", "full_goodput_rps"):
                values = self.result[key].setdefault(name, {}).setdefault(at, [])
                values += [trial[key]] if trial["kind"] == GOODPUT else []
        if trial["kind"] == LEFT_OUT:
            out = self.result["left_out"].setdefault(name, {})
            out[at] = out.get(at, 0) + 1

    def _answers(self, model: Model) -> list[Probability | None]:
        """The one set of answers that all systems with this model are held to."""
        if model.folder not in self._known:
            self._known[model.folder] = known_of(model, self._samples)
        return self._known[model.folder]

    @contextmanager
    def _skipping(self, name: str) -> Iterator[None]:
        """A system that can't be measured leaves the comparison; the others go on."""
        try:
            yield
        except (PeerUnavailableError, OSError) as error:
            self.result["skipped"][name] = str(error) or type(error).__name__
            self._report(f"{name} is skipped: {error}")


def _entry(turn: Turn, kind: str, multiple: int | None, trial: Trial) -> dict[str, Any]:
    return {"system": turn.system, "repeat": turn.repeat, "kind": kind, "multiple": multiple, **trial.plain()}


@contextmanager
def started(system: System, log: Path) -> Iterator[Running]:
    """The system, ready; one that doesn't become ready is started once more."""
    with ExitStack() as life:
        try:
            running = life.enter_context(system.running(log))
        except PeerUnavailableError:
            running = life.enter_context(system.running(log))
        yield running
