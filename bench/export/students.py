"""The students to measure with: the product's own and a naive DCN V2, trained on the same days."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from exfm.data.source import Source
from exfm.distill.config import load_config
from exfm.distill.trainer import Progress
from exfm.distill.training import train

NAIVE = "dcn"
ARMS = ("own", "naive")
"""The student as configured, and `NAIVE` with its own defaults; all else is the same, the teacher's labels too."""


@dataclass(frozen=True)
class Trained:
    """An arm's run: where its students lie, and each vertical's NE on the last day, each row before it was learned."""

    folder: Path
    ne: Mapping[str, float]

    def checkpoint(self, vertical: str) -> Path:
        return self.folder / "students" / f"{vertical}.pt"


def train_arms(source: Source, out: Path, seed: int) -> dict[str, Trained]:
    """Train both arms one after the other."""
    return {arm: _train(source, out / arm, seed, arm) for arm in ARMS}


def ne_gap(own: Trained, naive: Trained) -> dict[str, float]:
    """By vertical how much larger the own student's NE is than the naive one's, a share of the latter."""
    return {vertical: own.ne[vertical] / naive.ne[vertical] - 1 for vertical in own.ne}


def _train(source: Source, folder: Path, seed: int, arm: str) -> Trained:
    config = load_config(source.name, None, {"seed": seed})
    if arm == "naive":
        config = replace(config, student=replace(config.student, backbone=NAIVE, model={}))
    with tqdm(total=len(source.examples), unit="row", desc=f"train {arm}", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.update(step.done - bar.n)

        report = train(source, config, folder, show)
    first = {name: next(iter(tasks.values())) for name, tasks in report.verticals.items()}
    return Trained(folder, {name: task.ne for name, task in first.items() if task.ne is not None})
