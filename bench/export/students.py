"""The students to measure with: the product's own and a naive DCN V2, trained on the same days."""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import exfm
from exfm.data.source import Source
from exfm.distill.config import TrainConfig, load_config
from exfm.distill.trainer import Progress
from exfm.distill.training import train

NAIVE = "dcn"
ARMS = ("own", "naive")
"""The student as configured, and `NAIVE` with its own defaults; all else is the same, the teacher's labels too."""
STAMP = "arms.json"


@dataclass(frozen=True)
class Trained:
    """An arm's run: where its students lie, and each vertical's NE on the last day, each row before it was learned."""

    folder: Path
    ne: Mapping[str, float]

    def checkpoint(self, vertical: str) -> Path:
        return self.folder / "students" / f"{vertical}.pt"


def train_arms(source: Source, out: Path, seed: int) -> dict[str, Trained]:
    """Train both arms one after the other, or take those of an earlier run with the same data, configuration and code.

    Args:
        source: what to learn from.
        out: gets a folder named after all that the arms depend on; others of the same source are removed.
        seed: of training.
    """
    folder = out / f"{source.name}-{_digest(source, seed)}"
    if not (folder / STAMP).is_file():
        for old in out.glob(f"{source.name}-*"):
            shutil.rmtree(old)
        ne = {arm: _train(source, folder / arm, seed, arm) for arm in ARMS}
        (folder / STAMP).write_text(json.dumps(ne, indent=1) + "\n", encoding="utf-8")
    kept = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    return {arm: Trained(folder / arm, kept[arm]) for arm in ARMS}


def ne_gap(own: Trained, naive: Trained) -> dict[str, float]:
    """By vertical how much larger the own student's NE is than the naive one's, a share of the latter."""
    return {vertical: own.ne[vertical] / naive.ne[vertical] - 1 for vertical in own.ne}


def code_digest(*packages: Path) -> str:
    """sha256 in hex over the modules and configurations in folders, or files."""
    made = hashlib.sha256()
    for package in packages:
        inside = [package] if package.is_file() else [*package.rglob("*.py"), *package.rglob("*.toml")]
        for path in sorted(inside):
            made.update(path.name.encode() + b"\0" + path.read_bytes())
    return made.hexdigest()


def _digest(source: Source, seed: int) -> str:
    made = hashlib.sha256(f"{source.name} {source.schema.digest} {_config(source, seed, 'naive')}".encode())
    made.update(code_digest(Path(exfm.__path__[0])).encode())
    examples = source.examples
    by_name = (examples.blocks, examples.labels, examples.signals, source.ads.blocks, source.users.blocks)
    columns = [examples.time_ms, examples.user, examples.ad, *(column for each in by_name for column in each.values())]
    for column in columns:
        made.update(np.ascontiguousarray(column).tobytes())
    return made.hexdigest()[:12]


def _config(source: Source, seed: int, arm: str) -> TrainConfig:
    config = load_config(source.name, None, {"seed": seed})
    return replace(config, student=replace(config.student, backbone=NAIVE, model={})) if arm == "naive" else config


def _train(source: Source, folder: Path, seed: int, arm: str) -> dict[str, float]:
    with tqdm(total=len(source.examples), unit="row", desc=f"train {arm}", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.update(step.done - bar.n)

        report = train(source, _config(source, seed, arm), folder, show)
    first = {name: next(iter(tasks.values())) for name, tasks in report.verticals.items()}
    return {name: task.ne for name, task in first.items() if task.ne is not None}
