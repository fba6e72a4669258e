"""Engines side by side, and students side by side, each against the naive way: one fp32 graph in ONNX Runtime with the
request's side repeated for every candidate."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint, load_checkpoint
from exporter.engines.candidate import Candidate, scoring
from exporter.engines.recipes import RECIPES
from exporter.engines.table import ALL, SERVER_PACKAGES, try_engines
from exporter.engines.trial import Trial
from exporter.profile import Latency, Race, interleave
from exporter.runner.engine import Engine
from exporter.runner.scorer import Scorer
from exporter.trace import ServedStudent

NAIVE = "naive"


class Replicated:
    """An engine that gets every candidate as a request of its own: nothing is shared between candidates."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(
        self,
        request_rows: NDArray[np.int64],
        candidate_rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        history: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        one_each, past = np.ones_like(candidate_rows[:, 0]), None if history is None else history.repeat(counts, axis=0)
        return self._engine.run(request_rows.repeat(counts, axis=0), candidate_rows, one_each, past)


@dataclass(frozen=True)
class Entrant:
    """A student's engines, built: a trial per engine that was asked for, and a folder for each that runs here."""

    schema: Schema
    trials: Sequence[Trial]
    built: dict[str, Candidate]

    def race(self, sizes: Sequence[int], rounds: int) -> dict[int, Race]:
        """All engines and `NAIVE` in turns, by number of candidates."""
        return {size: interleave(self.runs(size), rounds) for size in sizes}

    def runs(self, candidates: int) -> dict[str, Callable[[], object]]:
        """By engine, and `NAIVE`, something that scores a request of that many candidates."""
        runs = {name: candidate.run_of(candidates) for name, candidate in self.built.items()}
        return {**runs, NAIVE: self._naive(candidates)}

    def _naive(self, candidates: int) -> Callable[[], object]:
        whole = self.built["onnx"]
        scorer = Scorer(whole.folder, self.schema, Replicated(whole.engine))
        return scoring(scorer, self.schema, candidates)


@contextmanager
def entrant(path: Path, report: Callable[[str], None], engines: Sequence[str] = ALL) -> Iterator[Entrant]:
    """Build the engines of a checkpoint; their files are gone afterwards. Engines that need torch run here, too."""
    checkpoint = load_checkpoint(path)
    served = ServedStudent(checkpoint.build_student()).eval()
    work = Path(tempfile.mkdtemp(prefix="bench-export-"))
    try:
        yield _build(checkpoint, served, work, report, engines)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build(
    checkpoint: Checkpoint, served: ServedStudent, work: Path, report: Callable[[str], None], engines: Sequence[str]
) -> Entrant:
    trials, built = try_engines(
        checkpoint,
        served,
        work,
        engines=engines,
        sizes=(),
        report=report,
        server_packages=(*SERVER_PACKAGES, "torch"),
    )
    return Entrant(checkpoint.schema, [_as_served(trial) for trial in trials], built)


def _as_served(trial: Trial) -> Trial:
    """The trial as an export would see it, though what the server lacks was run here."""
    missing = [package for package in RECIPES[trial.engine].packages if package not in SERVER_PACKAGES]
    if not missing or not trial.accepted:
        return trial
    return replace(trial, accepted=False, reason=f"{missing[0]} is not installed in the server's environment")


def engine_rows(trials: Sequence[Trial], races: Mapping[int, Race]) -> list[dict[str, Any]]:
    """The table of engines: one row per engine and number of candidates."""
    rows = []
    for size, race in races.items():
        latencies = race.latencies
        ran = [trial for trial in trials if trial.engine in latencies]
        rows += [_row(trial, size, latencies[trial.engine], race.ratio(trial.engine, NAIVE)) for trial in ran]
        rows.append({**_figures(NAIVE, size, latencies[NAIVE]), "ratio_naive": 1.0, "ne_loss": 0.0, "accepted": True})
    return rows


def _row(trial: Trial, size: int, latency: Latency, ratio: float) -> dict[str, Any]:
    return {
        **_figures(trial.engine, size, latency),
        "ratio_naive": round(ratio, 4),
        "ne_loss": trial.ne_loss,
        "max_difference": trial.max_difference,
        "accepted": trial.accepted,
        "reason": trial.reason,
    }


def _figures(engine: str, size: int, latency: Latency) -> dict[str, Any]:
    return {"engine": engine, "candidates": size, **latency.to_dict()}


def student_ratios(
    own: Entrant, naive: Entrant, engine: str, sizes: Sequence[int], rounds: int
) -> dict[str, dict[str, float]]:
    """By number of candidates how the own student's time compares with the naive student's, in turns.

    Returns:
        Per size: `ratio` of the own student with `engine` to the naive one in its naive way, `same_engine` with that
        engine for both (medians of the rounds' ratios), and the two medians, milliseconds.
    """
    made = {}
    for size in sizes:
        ours, theirs = own.runs(size)[engine], naive.runs(size)
        race = interleave({"own": ours, "naive": theirs[NAIVE], "same": theirs[engine]}, rounds)
        p50_ms = {name: latency.p50_ms for name, latency in race.latencies.items()}
        made[str(size)] = {
            "ratio": round(race.ratio("own", "naive"), 4),
            "same_engine": round(race.ratio("own", "same"), 4),
            "own_ms": round(p50_ms["own"], 4),
            "naive_ms": round(p50_ms["naive"], 4),
        }
    return made
