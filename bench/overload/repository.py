"""The models that the bench serves: those of the demo, or its own students, learned quickly from the simulator."""

import sys
from pathlib import Path

from tqdm import tqdm

from serving.signature import MANIFEST

DEMO = Path("build/demo/model_repository")
ROWS = 20_000
"""Impressions to learn from: the students' speed depends on the schema, not on how much they know."""


def find_or_make(asked: Path | None, out: Path) -> Path:
    """The model repository that was asked for, else the demo's, else one made in `out` the first time."""
    if asked is not None:
        return asked
    if _published(DEMO):
        return DEMO
    made = out / "model_repository"
    if not _published(made):
        _make(out / "run", made)
    return made


def _published(repository: Path) -> bool:
    return any(repository.glob(f"*/*/{MANIFEST}"))


def _make(run: Path, repository: Path) -> None:
    # torch and the exporter cost seconds and memory that no other run of the bench needs.
    from exfm.data.simulator import Scale, simulate  # noqa: PLC0415
    from exfm.data.source import Source  # noqa: PLC0415
    from exfm.distill.config import load_config  # noqa: PLC0415
    from exfm.distill.trainer import Progress  # noqa: PLC0415
    from exfm.distill.training import train  # noqa: PLC0415
    from exporter.export import export  # noqa: PLC0415

    source = Source("simulator", *simulate(0, Scale(rows=ROWS)))
    with tqdm(total=len(source.examples), unit="row", desc="train", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.update(step.done - bar.n)

        train(source, load_config(source.name), run, show)
    for student in tqdm(sorted((run / "students").glob("*.pt")), desc="export", unit="student", file=sys.stderr):
        export(student, repository)
