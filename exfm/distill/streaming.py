"""A training run over an example stream: what has come since the last run, each row once, wherever it is cut off."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exfm.data.annotated import StreamReader
from exfm.data.cursor import Cursor
from exfm.data.source import Source
from exfm.data.windows import WINDOW, refuse_other, windows
from exfm.distill import former, state_file
from exfm.distill.config import TrainConfig
from exfm.distill.continual import FORMAT, Continued
from exfm.distill.publish import publish
from exfm.distill.report import write_report
from exfm.distill.scoring import TrainingReport
from exfm.distill.trainer import Progress, Trainer, TrainingError
from exfm.distill.training import figures, torch_threads

STATE = "training.pt"
POLL_S = 1.0
"""Between two looks at a stream that is followed."""
Show = Callable[[Progress], None]


@dataclass(frozen=True)
class StreamOrder:
    """What to train on, and how.

    Attributes:
        stream: its folder.
        out: where `training.pt` lies and everything else is written.
        log: reads the log before the stream; None: there is none, or it was read by an earlier run.
        resume: go on from `training.pt` where there is one; without, one that is there is refused, not overwritten.
        window: rows in memory at a time, about.
        checkpoint_s: seconds after which `training.pt` is written anew, between windows.
        consumer: name of the cursor that keeps retention from dropping what was not learned yet, of this run alone;
            None: `consumer_of(out)`.
        threads: of torch.
        stop: learn on as rows come, until it is set; None: end where the stream ends.
    """

    stream: Path
    out: Path
    log: Callable[[], Source] | None = None
    resume: bool = False
    window: int = WINDOW
    checkpoint_s: float = 60.0
    consumer: str | None = None
    threads: int = 1
    stop: threading.Event | None = None


def consumer_of(out: Path) -> str:
    """The cursor's name of the run that writes there: the same each time, and another one for another folder."""
    place = out.resolve()
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", place.name)[:64]
    return f"train-{readable}-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"


def train_stream(order: StreamOrder, config: TrainConfig, progress: Show = lambda _: None) -> TrainingReport:
    """Learn what a stream holds from the last run's place on, and publish what comes of it.

    The last `training.pt` is written behind the published files, and no other one behind the last row. So whatever is
    cut off is done again from an earlier place, and the files that stand at the end have learned each row once. With
    `stop` all of this is done whenever a window has come, or what has come is `checkpoint_s` old.

    Raises:
        DataError: the stream is damaged, lacks rows that are due, or is not the one that was read before.
        StateError: `training.pt` is damaged, or another run is at work.
        ContinuationError, ConfigError, CounterError, ModelError, TrainingError: log, stream and settings don't fit.
        LazyTableError: a table on disk can't be opened or written.
    """
    began = time.monotonic()
    with state_file.alone(order.out), torch.random.fork_rng(devices=[]), torch_threads(order.threads):
        run = _Run(order, config)
        with closing(run.learned):
            before = run.learned.rows
            report = _learn_and_publish(run, order, progress, began, before)
            while order.stop and not order.stop.wait(POLL_S):
                if run.due():
                    report = _learn_and_publish(run, order, progress, began, before)
            return report


def _learn_and_publish(run: "_Run", order: StreamOrder, progress: Show, began_s: float, before: int) -> TrainingReport:
    trainer = run.learn(progress)
    verticals = {name: figures(made) for name, made in run.learned.latest.items()}
    place = {**vars(run.learned.place), "learned": run.learned.rows}
    rows = run.learned.rows - before
    report = TrainingReport(run.learned.form.schema.name, time.monotonic() - began_s, rows, verticals, place)
    if trainer is not None:
        if not verticals and order.stop:
            return report
        if not verticals:
            raise TrainingError(f"{order.stream}: no impression with an outcome yet")
        publish(trainer, report, order.out)
        write_report(report, order.out)
        run.save()
    return report


class _Run:
    def __init__(self, order: StreamOrder, config: TrainConfig) -> None:
        self._order, self._path = order, order.out / STATE
        self._learned_s = 0.0
        self._consumer = order.consumer or consumer_of(order.out)
        self._reader, self._cursor = StreamReader(order.stream), Cursor(order.stream, self._consumer)
        if self._path.exists() and not order.resume:
            raise TrainingError(
                f"{self._path}: is there from an earlier run; go on from it, or begin in another folder"
            )
        state = state_file.load(self._path, FORMAT) if self._path.exists() else None
        self._log = order.log() if order.log and not (state and _log_is_over(state)) else None
        if state is None:
            self.learned = Continued(self._reader.form, config, self._log)
            former.look_for(self._cursor, order.stream, order.consumer, row=None)
            if config.teacher.table:
                self.save()  # before anything is committed there: whoever is killed later finds the table its own
            return
        _refuse_other_log(state, self._log, order)
        self.learned = Continued(self._reader.form, config, self._log, state["signals"])
        self.learned.resume(state)
        refuse_other(self._reader, self.learned.place)
        self._refuse_shared_cursor()
        former.look_for(self._cursor, order.stream, order.consumer, self.learned.place.row)

    def learn(self, progress: Show) -> Trainer | None:
        """What the last window's run was; None if nothing has come."""
        learned, order, trainer = self.learned, self._order, None
        self._cursor.move(learned.place.row)
        total = learned.rows + self._rest()
        saved_s = time.monotonic()
        for window in windows(self._reader, learned.place, order.window, self._log):
            if time.monotonic() - saved_s >= order.checkpoint_s and trainer is not None:
                self.save()
                saved_s = time.monotonic()
            trainer = learned.learn(window, _over_all(progress, learned.rows, total))
            if order.stop and order.stop.is_set():
                break
        self._learned_s = time.monotonic()
        return trainer

    def due(self) -> bool:
        """Whether a window of rows has come, or any, and the last ones were learned long enough ago."""
        rest, waited_s = self._rest(), time.monotonic() - self._learned_s
        return rest >= self._order.window or (rest > 0 and waited_s >= self._order.checkpoint_s)

    def save(self) -> None:
        """Make the present place the one to go on from, then let retention know."""
        self._order.out.mkdir(parents=True, exist_ok=True)
        log_rows = len(self._log.examples) if self._log else self.learned.place.log
        state_file.save(self._path, {**self.learned.state(), "log_rows": log_rows})
        self._cursor.move(self.learned.place.row)

    def _refuse_shared_cursor(self) -> None:
        """A cursor follows its run's state: one that is ahead of it lets retention drop rows that are still to come."""
        at, row = self._cursor.row, self.learned.place.row
        if at > row:
            where = f"{self._order.stream}: cursor {self._consumer!r} is at row {at}, {self._path} at {row}"
            raise TrainingError(f"{where}: another run moves it, or the file is an old copy; --consumer names another")

    def _rest(self) -> int:
        place, commits = self.learned.place, self._reader.commits()
        stream = sum(min(each.rows, max(0, each.end_row - place.row)) for each in commits if each.files)
        return stream + (len(self._log.examples) - place.log if self._log else 0)


def _over_all(progress: Show, before: int, total: int) -> Callable[[Progress], None]:
    """A window's progress as the whole run's."""

    def show(step: Progress) -> None:
        progress(Progress(before + step.done, total, step.ne))

    return show


def _log_is_over(state: dict[str, Any]) -> bool:
    return bool(state["place"]["log"] == state["log_rows"])


def _refuse_other_log(state: dict[str, Any], log: Source | None, order: StreamOrder) -> None:
    done, rows = state["place"]["log"], state["log_rows"]
    if log is None and done < rows:
        raise TrainingError(f"{order.out}: stopped at row {done} of the {rows} of a log, which must be given again")
    if not rows and order.log:
        raise TrainingError(f"{order.out}: has begun without a log; one can't come before it any more")
    if log is not None and len(log.examples) != rows:
        raise TrainingError(f"{order.out}: the log had {rows} rows and has {len(log.examples)}")
