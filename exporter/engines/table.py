"""The engine of a version, chosen by measured latency under an accuracy bound."""

import errno
import importlib.util
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from exfm.models.checkpoint import Checkpoint
from exporter.engines.candidate import Candidate, Reference
from exporter.engines.recipes import RECIPES, processor_flags
from exporter.engines.trial import EngineChoice, Trial
from exporter.engines.workshop import Workshop
from exporter.errors import ExportRefusedError
from exporter.factory import first_line
from exporter.profile import ROUNDS, Latency, Race, buckets_for, interleave
from exporter.progress import Watch, unwatched
from exporter.trace import ServedStudent

__all__ = [
    "ALL",
    "SERVER_PACKAGES",
    "EngineChoice",
    "Latency",
    "Trial",
    "choose_engine",
    "fastest",
    "timed",
    "try_engines",
]

ALL: tuple[str, ...] = tuple(RECIPES)
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a disk says that is no engine's fault."""
SERVER_PACKAGES: tuple[str, ...] = ("onnxruntime", "openvino")
"""What the embedded Triton server's environment offers to an engine, where there is none yet that can be asked; see
`exporter.engines.environment`. The vendor's container may offer others."""
GAIN = 0.95
"""A less exact engine serves only if it takes at most this share of a more exact one's time."""
WEIGHTY = 100
"""Requests below this many candidates do not count for the choice: they are far from any budget."""

Report = Callable[[str], None]


def choose_engine(
    checkpoint: Checkpoint,
    served: ServedStudent,
    folder: Path,
    *,
    engines: Sequence[str] = ALL,
    buckets: Sequence[int] = (),
    report: Report = lambda _: None,
    watch: Watch = unwatched,
    server_packages: Sequence[str] = SERVER_PACKAGES,
) -> EngineChoice:
    """Try every engine, then write the files of the fastest that is exact enough into `folder`.

    Args:
        checkpoint: gives the schema and the golden request.
        served: the student in torch, in evaluation mode; what engines are compared with.
        folder: the staged version; gets the engine's files, `engine.json` and the runner's modules, nothing else.
        engines: which to try; with a single one, that one or nothing.
        buckets: numbers of candidates to measure at; empty: `buckets_for` what the vertical takes.
        report: gets a short text at each step.
        watch: shows how far a step is.
        server_packages: what the server's environment offers; an engine that needs others is not accepted.

    Raises:
        ExportRefusedError: an engine is unknown, none may serve, or a weight is not the student's.
    """
    if unknown := [name for name in engines if name not in RECIPES]:
        raise ExportRefusedError(f"engine: {unknown[0]!r} is none of {', '.join(RECIPES)}")
    sizes = tuple(buckets) or buckets_for(max(vertical.max_candidates for vertical in checkpoint.schema.verticals))
    work = Path(tempfile.mkdtemp(prefix=".trials-", dir=folder))
    try:
        trials, candidates = try_engines(
            checkpoint,
            served,
            work,
            engines=engines,
            sizes=sizes,
            report=report,
            watch=watch,
            server_packages=server_packages,
        )
        winner = fastest(trials)
        assert winner.max_difference is not None
        bound = RECIPES[winner.engine].bound_for(winner.max_difference)
        candidates[winner.engine].install(folder, bound)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return EngineChoice(winner.engine, tuple(trials), winner.max_difference, bound, GAIN)


def try_engines(
    checkpoint: Checkpoint,
    served: ServedStudent,
    work: Path,
    *,
    engines: Sequence[str],
    sizes: Sequence[int],
    report: Report = lambda _: None,
    watch: Watch = unwatched,
    server_packages: Sequence[str] = SERVER_PACKAGES,
) -> tuple[list[Trial], dict[str, Candidate]]:
    """Build and measure the engines; returns a trial for each and, of those that run here, what was built.

    Without `sizes` nothing is timed.
    """
    shop = Workshop(served, checkpoint.schema, work)
    reference = Reference.of(checkpoint, shop)
    built: dict[str, Candidate] = {}
    found: dict[str, Trial] = {}
    with watch("engines", len(engines)) as done:
        for name in engines:
            obstacle = _obstacle(name, reference.splits, server_packages)
            trial = Trial(name, {}, None, None, accepted=False, reason=obstacle)
            if not trial.reason:
                report(f"building {name}")
                trial = _try(name, shop, work / f"engine-{name}", reference, built)
            found[name] = trial
            done()
    if not sizes:
        return [found[name] for name in engines], built
    report(f"timing {', '.join(built)}")
    with watch("rounds", len(sizes) * ROUNDS) as done:
        races = {
            size: interleave({name: each.run_of(size) for name, each in built.items()}, after=done) for size in sizes
        }
    return timed([found[name] for name in engines], races), built


def timed(trials: Sequence[Trial], races: Mapping[int, Race]) -> list[Trial]:
    """The trials with what they did in the races, one per number of candidates."""
    latencies = {size: race.latencies for size, race in races.items()}
    ratios = paired_ratios(races)
    made = []
    for trial in trials:
        profile = {size: by_name[trial.engine] for size, by_name in latencies.items() if trial.engine in by_name}
        made.append(replace(trial, profile=profile, ratios=ratios.get(trial.engine, {})))
    return made


def paired_ratios(races: Mapping[int, Race]) -> dict[str, dict[str, float]]:
    """By name and other name the share of the other's time, each number of candidates with the same say."""
    weighty = [race for size, race in races.items() if size >= WEIGHTY] or list(races.values())
    names = list(weighty[0].spent_ns) if weighty else []

    def ratio(name: str, other: str) -> float:
        return math.exp(sum(math.log(race.ratio(name, other)) for race in weighty) / len(weighty))

    return {name: {other: ratio(name, other) for other in names} for name in names}


def _try(name: str, shop: Workshop, folder: Path, reference: Reference, built: dict[str, Candidate]) -> Trial:
    """Build and judge one engine; it enters `built` if it runs."""
    try:
        candidate = Candidate.build(name, shop, folder)
        trial = candidate.judge(reference)
    except ExportRefusedError:
        raise  # a weight is not the student's: no engine would mend that
    except OSError as error:
        if error.errno in NO_PLACE:
            raise  # nor a disk that takes nothing more
        return Trial(name, {}, None, None, accepted=False, reason=first_line(error))
    except Exception as error:  # whatever a foreign converter or engine says to this model
        return Trial(name, {}, None, None, accepted=False, reason=first_line(error.__cause__ or error))
    built[name] = candidate
    return trial


def _obstacle(name: str, splits: bool, server_packages: Sequence[str]) -> str:
    recipe = RECIPES[name]
    for package in recipe.packages:
        if package not in server_packages:
            return f"{package} is not installed in the server's environment (if it is: --server-has {package})"
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed here"
    if missing := [tool for tool in recipe.tools if shutil.which(tool) is None]:
        return f"{missing[0]} is not installed here"
    if recipe.split and not splits:
        return "the model does not take gathered rows"
    if recipe.processor and not processor_flags() & set(recipe.processor):
        return f"this processor has none of {', '.join(recipe.processor)}"
    return ""


def fastest(trials: Sequence[Trial]) -> Trial:
    """The one that serves: the most exact of the accepted, unless a less exact one is faster by more than noise.

    Raises:
        ExportRefusedError: none was accepted.
    """
    accepted = [trial for trial in trials if trial.accepted]
    if not accepted:
        reasons = "; ".join(f"{trial.engine}: {trial.reason}" for trial in trials)
        raise ExportRefusedError(f"engine: none may serve: {reasons}")
    best, *others = sorted(accepted, key=lambda trial: list(RECIPES).index(trial.engine))
    for trial in others:
        if trial.ratios[best.engine] < GAIN:
            best = trial
    return best
