"""An engine that was built to be tried: its folder, and its scorer as the server will run it."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

import exporter
import exporter.runner
from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint
from exporter.engines.accuracy import NE_LOSS_BOUND, measure_accuracy
from exporter.engines.dense import splits
from exporter.engines.recipes import RECIPES, bounded
from exporter.engines.requests import random_request, random_rows
from exporter.engines.trial import Trial
from exporter.engines.workshop import Workshop
from exporter.golden import encode_request
from exporter.runner.engine import Engine, EngineFile, load_engine
from exporter.runner.scorer import Scorer
from exporter.verify import Batch, torch_probability

RUNNER = ("__init__.py", "absence.py", "aside.py", "early.py", "engine.py", "scorer.py", "rows.py", "whole.py")
"""Modules of the runner that every version gets, besides the one of its engine; `model.py` is the package's part."""


@dataclass(frozen=True)
class Reference:
    """What engines are compared with: batches, torch's probabilities for them, and whether the model splits."""

    batches: Sequence[Batch]
    exact: Sequence[NDArray[np.float32]]
    splits: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint, shop: Workshop) -> Self:
        """The golden request, rows that training has touched, any rows, and as many candidates as there may be: what
        rounds by the largest value of a request is coarsest with most of them."""
        schema, every = checkpoint.schema, np.ones(checkpoint.schema.rows, bool)
        batches = [encode_request(schema, checkpoint.golden), random_rows(schema, every, seed=0)]
        batches += [random_rows(schema, shop.trained(), seed) for seed in range(1, 5)]
        batches.append(random_rows(schema, shop.trained(), seed=5, sizes=(shop.most,)))
        return cls(batches, [torch_probability(shop.served, batch) for batch in batches], splits(shop.served))


@dataclass(frozen=True)
class Candidate:
    """An engine's folder, and how it is run."""

    name: str
    folder: Path
    file: EngineFile
    schema: Schema

    @cached_property
    def engine(self) -> Engine:
        """The engine, loaded once; as long as it lives its files do, even unlinked."""
        return load_engine(self.folder, self.file)

    @classmethod
    def build(cls, name: str, shop: Workshop, folder: Path) -> Self:
        """Make the files; they are links to the workshop's."""
        recipe = RECIPES[name]
        folder.mkdir()
        for target, source in recipe.files(shop).items():
            os.link(source, folder / target)
        made = cls(name, folder, recipe.engine_file(name, shop), shop.schema)
        made.file.write(folder)
        return made

    def judge(self, reference: Reference) -> Trial:
        """Measure the accuracy and hold it to the bounds."""
        accuracy = measure_accuracy(self.engine, reference.batches, reference.exact)
        bound, reason = RECIPES[self.name].bound, ""
        if not accuracy.max_difference <= bound:
            reason = f"parity: off by {accuracy.max_difference:.3g}; the bound is {bound:g}"
        elif not accuracy.ne_loss <= NE_LOSS_BOUND:
            reason = f"NE loss: {accuracy.ne_loss:.3%}; the bound is {NE_LOSS_BOUND:.2%}"
        return Trial(self.name, {}, accuracy.ne_loss, accuracy.max_difference, accepted=not reason, reason=reason)

    def run_of(self, candidates: int) -> Callable[[], object]:
        """Scores requests of that many candidates, as the server will."""
        return scoring(Scorer(self.folder, self.schema, self.engine), self.schema, candidates)

    def install(self, folder: Path, bound: float) -> None:
        """Move the files into the folder of a version that states that bound, the runner's modules beside them."""
        bounded(self.file, bound).write(self.folder)
        for path in self.folder.iterdir():
            path.replace(folder / path.name)
        runner = folder / "exporter" / "runner"
        runner.mkdir(parents=True, exist_ok=True)
        source = Path(exporter.runner.__path__[0])
        for name in dict.fromkeys((*RUNNER, f"{self.file.runtime}.py")):
            shutil.copyfile(source / name, runner / name)
        shutil.copyfile(Path(exporter.__path__[0]) / "__init__.py", runner.parent / "__init__.py")


def scoring(scorer: Scorer, schema: Schema, candidates: int) -> Callable[[], object]:
    """Scores a few different random requests in turn, from raw tensors on."""
    requests = cycle([random_request(schema, candidates, seed) for seed in range(4)])
    return lambda: scorer.score([next(requests)])
