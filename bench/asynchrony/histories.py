"""What histories are worth: a student with them, without them, and with the ads themselves in their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.asynchrony.raw_history import OPTIONS, RawHistories, RawStudent
from exfm.augment.annotate.forward import annotate
from exfm.augment.annotate.snapshots import Snapshot
from exfm.data.chunks import by_rows
from exfm.data.histories import Histories
from exfm.data.source import ENVIRONMENT, Source, open_source
from exfm.distill.config import TrainConfig, load_config
from exfm.distill.learners import StudentLearner, TeacherLearner
from exfm.distill.metrics import Figures, measure
from exfm.distill.stream import TeacherStream, VerticalStream, encode
from exfm.features.history import History
from exfm.features.schema import HistorySpec
from exfm.models.student import Student

ARMS = ("without", "raw", "histories")
DIMENSION, LENGTH = 32, 20
DELAY_S = 3600.0
"""From the impression to the store: the outcome's window, the join and the annotation."""
TEACHER_SHARE = 0.4
"""Of the log's time: the teacher learns it and never annotates it; students start behind it."""
SIMULATED = f"{ENVIRONMENT} is not set: the log is the simulator's, and these figures are those of no real one"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Annotated:
    """A log whose rows from `start` on a teacher annotated that had learned those before: labels and events."""

    source: Source
    start: int
    tasks: tuple[str, ...]
    probability: Floats
    events: History


def histories(data_dir: Path | None, *, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Measure each arm with the same seeds on the last day, each row predicted before it was learned.

    Args:
        data_dir: a log; None: the simulator.
        seeds: of the students; their teacher is the same.

    Returns:
        Per arm `auc` and `ne` as means over verticals and seeds, and `seeds` with both per vertical and seed; under
        `about` what was measured on, and the gain over `without`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        source = open_source(data_dir)
        config = load_config(source.name, None, {"teacher": {"model": {"embedding": DIMENSION}}})
        made = annotated(source, config)
        measured = {arm: list(_runs(arm, made, config, seeds)) for arm in ARMS}
        spec = HistorySpec(LENGTH, DIMENSION, round(DELAY_S * 1e3))
        share = Histories(made.events, source.examples.user, source.examples.time_ms, spec).known_share
    finally:
        torch.set_num_threads(threads)
    plain = {arm: _summary(runs) for arm, runs in measured.items()}
    about = {
        "data": source.name,
        "simulated": data_dir is None,
        **({"warning": SIMULATED} if data_dir is None else {}),
        "rows": len(source.examples) - made.start,
        "share_with_history": share,
        "length": LENGTH,
        "dimension": DIMENSION,
        "delay_s": DELAY_S,
        "auc_over_without": {arm: plain[arm]["auc"] - plain["without"]["auc"] for arm in ARMS[1:]},
    }
    return {**plain, "about": about}


def annotated(source: Source, config: TrainConfig) -> Annotated:
    """Let a teacher learn the log's beginning, and annotate the rest with it as it is then."""
    times, rows = source.examples.time_ms, TeacherStream.of(source, config)
    start = int(np.searchsorted(times, times[0] + TEACHER_SHARE * (times[-1] - times[0])))
    counters = rows.counters.shape[1]
    with torch.random.fork_rng(devices=[]):
        learner = TeacherLearner(
            source.schema, rows.tasks, counters, config.teacher, seed=config.seed, batch=config.stream.batch
        )
        for chunk in by_rows(start, config.stream.chunk):
            learner.learn(rows.rows[chunk], rows.counters[chunk], rows.labels[chunk])
    learner.model.load_state_dict(learner.state())
    model = learner.model.eval()
    until_ms, schema = int(times[start - 1]), source.schema
    teacher = Snapshot("bench", "bench", schema, rows.tasks, model, counters, until_ms, source.name, schema)
    said = annotate(teacher, rows.rows[start:], rows.counters[start:], "int8")
    count = len(times)
    probability = np.full((count, len(rows.tasks)), np.nan, np.float32)
    codes = np.zeros((count, said.codes.shape[1]), np.uint8)
    probability[start:], codes[start:] = said.probability, said.codes
    space = (np.arange(count) >= start).astype(np.uint32)
    events = History(times, np.arange(count, dtype=np.uint64), space, codes, DIMENSION, "int8")
    return Annotated(source, start, rows.tasks, probability, events)


def _runs(arm: str, made: Annotated, config: TrainConfig, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    for vertical in made.source.schema.verticals:
        for seed in seeds:
            figures = _run(arm, made, vertical.name, config, seed)
            yield {"vertical": vertical.name, "seed": seed, "auc": figures.auc, "ne": figures.ne}


def _run(arm: str, made: Annotated, name: str, config: TrainConfig, seed: int) -> Figures:
    """One student's pass; figures of its first task on the last day."""
    source, spec = made.source, HistorySpec(LENGTH, DIMENSION, round(DELAY_S * 1e3))
    examples = source.examples
    past = Histories(made.events, examples.user, examples.time_ms, spec) if arm != "without" else None
    stream = VerticalStream.of(source, name, made.tasks, past)
    seen: Histories | RawHistories | None = past
    if past and arm == "raw":
        rows = encode(examples.project(source.schema, stream.schema), stream.schema)["ad"]
        seen = RawHistories(past, rows, examples.time_ms)
    with torch.random.fork_rng(devices=[]):
        learner = StudentLearner(
            stream.schema,
            config.student,
            config.distill,
            seed=seed,
            batch=config.stream.batch,
            history=OPTIONS,
            make=RawStudent if arm == "raw" else Student,
        )
        probability = _walk(learner, made, stream, seen, config.stream.chunk)
    last = stream.within(source.last_day, len(examples))
    return measure(stream.labels[last, 0], probability[last, 0])


def _walk(
    learner: StudentLearner, made: Annotated, stream: VerticalStream, seen: Histories | RawHistories | None, chunk: int
) -> Floats:
    """Predict and learn the vertical's rows from where the teacher stopped; NaN before."""
    done = np.full(stream.labels.shape, np.nan, np.float32)
    behind = stream.within(made.start, len(made.source.examples))
    for part in by_rows(behind.stop - behind.start, chunk):
        rows = slice(behind.start + part.start, behind.start + part.stop)
        teacher = made.probability[stream.index[rows]][:, stream.teacher_columns]
        past: Any = seen.rows(stream.index[rows]) if seen else None
        done[rows] = learner.stream(stream.request[rows], stream.candidate[rows], stream.labels[rows], teacher, past)
    return done


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"auc": fmean(run["auc"] for run in runs), "ne": fmean(run["ne"] for run in runs), "seeds": runs}
