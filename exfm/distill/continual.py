"""Training that goes on: a log and the stream behind it, window by window, each row once, across runs.

All that a run needs to go on lies in one file, `training.pt`, with the place that it has come to: whoever loads it has
learned exactly the rows before that place. A run that is killed leaves the file as it last was.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.data.annotated import StreamForm
from exfm.data.examples import BLOCK_NAMES, Catalogue, Examples
from exfm.data.histories import Remembered
from exfm.data.source import Source
from exfm.data.windows import Place, Window
from exfm.distill.config import ConfigError, TrainConfig
from exfm.distill.counters import width_of
from exfm.distill.past import CounterPlan, Facts, StreamCounters
from exfm.distill.publish import golden_request
from exfm.distill.scoring import Predictions
from exfm.distill.stream import teacher_tasks
from exfm.distill.trainer import Before, Progress, Trainer, TrainingError, history_of, teacher_of
from exfm.distill.vertical import VerticalLearners
from exfm.features.history import History

FORMAT = 1
FOLD_MS = 2 * 86_400_000
"""How far a row may come behind others and still see all of its counters."""
LATEST = 100_000
"""Rows per vertical, the latest ones, that the figures are of."""


class Continued:
    """What goes on from window to window: learners, counters, users' histories, and the latest predictions.

    Attributes:
        place: up to where everything was learned.
    """

    def __init__(self, form: StreamForm, config: TrainConfig, log: Source | None = None, signals: int = 0) -> None:
        """Nothing learned yet.

        Args:
            form: of the stream.
            config: the settings.
            log: what comes before the stream, if it is at hand.
            signals: how many further outcomes it has, if it is not.

        Raises:
            ConfigError, CounterError, ModelError, TrainingError: the settings don't fit.
        """
        if config.stream.holdout_s:
            raise ConfigError("stream.holdout_s: a stream goes on, so nothing can be held out at its end")
        schema, tasks = form.schema, teacher_tasks(form.schema, config)
        self.form, self.config, self.place = form, config, Place()
        self._signals = len(log.examples.signals) if log else signals
        self._offset_h = log.utc_offset_h if log else 0.0
        self._ads = log.ads if log else _ads_of(None)
        plan = CounterPlan(config.counters, config.stream.maturity_s)
        self._counters = StreamCounters(schema, tasks, self._signals, plan, keep_ms=None, fold_ms=FOLD_MS)
        self._teacher = teacher_of(schema, width_of(config.counters, len(tasks), self._signals), config)
        spec = history_of(schema.name, config, form.dimension)
        self._past = Remembered(spec, form.none, np.empty(0, np.int64)) if spec else None
        self._verticals = {
            each.name: VerticalLearners(replace(schema.for_vertical(each.name), history=spec), self._ads.key, config)
            for each in schema.verticals
        }
        self._latest: dict[str, Predictions] = {}
        self._rows, self._span_ms = 0, (0, 0)

    @property
    def rows(self) -> int:
        """How many were learned."""
        return self._rows

    @property
    def latest(self) -> Mapping[str, Predictions]:
        """By vertical what was predicted of its latest rows; those of which no row has come are left out."""
        return self._latest

    def learn(self, window: Window, progress: Callable[[Progress], None]) -> Trainer:
        """Predict and learn a window; what comes back can be published."""
        trainer = Trainer(self._source(window), self.config, self._before(window))
        for step in trainer.chunks():
            progress(step)
        for vertical in trainer.verticals:
            if len(vertical.stream.index):
                name, made = vertical.stream.name, trainer.predictions(vertical)
                last = self._latest.get(name, made.nothing())
                self._latest[name] = last.followed_by(made, most=LATEST, utc_offset_h=self._offset_h)
                vertical.learners.golden = golden_request(trainer.source, vertical.stream, self.config.seed)
        times = window.examples.time_ms
        first_ms = min(self._span_ms[0], int(times[0])) if self._rows else int(times[0])
        self._rows, self._span_ms, self.place = (
            self._rows + len(times),
            (first_ms, trainer.learned_until_ms),
            window.after,
        )
        return trainer

    def _before(self, window: Window) -> Before:
        histories = self._past.histories(window.events, window.examples.user) if self._past else None
        first_ms, until_ms = self._span_ms if self._rows else (0, -1)
        return Before(self._teacher, self._verticals, self._counters, self._rows, first_ms, until_ms, histories)

    def _source(self, window: Window) -> Source:
        """The window with all ads that are known until then; what the stream doesn't say of further outcomes is NaN."""
        examples, schema = window.examples, self.form.schema
        known = len(self._ads)
        self._ads = _ads_of(examples, self._ads)
        if len(self._ads) > known:
            for each in self._verticals.values():
                each.prior.know(self._ads.key)
        if window.after.row:
            unknown = np.full(len(examples), np.nan, np.float32)
            also = {task: unknown for task in self.config.teacher.also if task not in examples.labels}
            examples = replace(examples, labels={**examples.labels, **also})
        return Source(schema.name, schema, examples, self._ads, _ads_of(None), self._offset_h, window.events)

    def close(self) -> None:
        """Let go of the teacher's table, if that is one on disk."""
        self._teacher.close()

    def state(self) -> dict[str, Any]:
        """All of it, uncopied, for `exfm.distill.state_file.save`."""
        past = self._past
        return {
            "format": FORMAT,
            "form": self.form.to_json(),
            "settings": settings_of(self.config),
            "place": asdict(self.place),
            "signals": self._signals,
            "offset_h": self._offset_h,
            "ads": vars(self._ads),
            "counters": {key: [vars(each) for each in runs] for key, runs in self._counters.carried().items()},
            "teacher": self._teacher.carried(),
            "verticals": {name: each.carried() for name, each in self._verticals.items()},
            "past": {"events": vars(past.events), "user": past.user, "spaces": past.spec.spaces} if past else {},
            "latest": {name: each.plain() for name, each in self._latest.items()},
            "rows": self._rows,
            "span_ms": self._span_ms,
            "random": torch.get_rng_state(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` gave.

        Raises:
            TrainingError: that was of another schema or other settings.
        """
        if state["form"] != self.form.to_json():
            raise TrainingError("the training to go on with was of another stream: its schema or its embeddings differ")
        refuse_other_settings(json.loads(state["settings"]), json.loads(settings_of(self.config)))
        self.place = Place(**state["place"])
        self._offset_h, self._ads = state["offset_h"], Catalogue(**state["ads"])
        self._counters.resume({key: [Facts(**each) for each in runs] for key, runs in state["counters"].items()})
        self._teacher.resume(state["teacher"])
        for name, each in self._verticals.items():
            each.resume(state["verticals"][name])
        if self._past:
            spec = replace(self._past.spec, spaces=tuple(state["past"]["spaces"]))
            self._past = Remembered(spec, History(**state["past"]["events"]), state["past"]["user"])
        self._latest = {name: Predictions.of_plain(each) for name, each in state["latest"].items()}
        self._rows, self._span_ms = state["rows"], tuple(state["span_ms"])
        torch.set_rng_state(state["random"])


def settings_of(config: TrainConfig) -> str:
    """The settings as JSON."""
    return json.dumps(asdict(config), sort_keys=True, default=dict)


def refuse_other_settings(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> None:
    """`TrainingError` names the first setting that is not what it was; both as `settings_of` has them, read."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            refuse_other_settings(old, new, f"{where}{key}.")
        elif old != new:
            raise TrainingError(f"the training to go on with had other settings: {where}{key} was {old!r}, is {new!r}")


def _ads_of(rows: Examples | None, known: Catalogue | None = None) -> Catalogue:
    """The ads of some rows, those known before among them."""
    if rows is None:
        return Catalogue(np.empty(0, np.int64), {})
    blocks: dict[str, NDArray[Any]] = {name: rows.blocks[name] for name in BLOCK_NAMES if name.startswith("ad_")}
    if known is None or not len(known):
        return Catalogue.of(rows.ad, blocks)
    both = {name: np.concatenate([known.blocks[name], block]) for name, block in blocks.items()}
    return Catalogue.of(np.concatenate([known.key, rows.ad]), both)
