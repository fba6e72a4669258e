"""What is compared: the student built for serving, and the naive one that the peers serve, trained on the same days."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import exporter
from bench.export.students import Trained, code_digest, train_arms
from exfm.data.source import open_source, resolve_data_dir
from exfm.models.checkpoint import load_checkpoint
from exporter.engines.table import ALL
from exporter.export import export
from exporter.options import ExportOptions
from exporter.trace import ServedStudent, write_graph
from loadtest.peers import naive
from loadtest.peers.errors import ModelFolderError
from loadtest.peers.model import find_model

FINISHED = "finished"


@dataclass(frozen=True)
class Contestants:
    """Two model repositories, both with the same vertical.

    Attributes:
        data: name of the log that both learned from.
        own: the student built for serving, with its lite one.
        naive: the naive student as one fp32 graph.
    """

    data: str
    own: Path
    naive: Path


class ReplicatedStudent(ServedStudent):
    """A student served naively: the request's side is repeated for each candidate and looked up with it."""

    def forward(
        self,
        request_rows: Tensor,
        candidate_rows: Tensor,
        owner: Tensor,
        history: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """See `Student.forward`; probabilities float32 [M, T]. For students without histories."""
        student = self.student
        repeated = torch.index_select(request_rows, 0, owner)
        request, request_first = student.table.split(student.table(repeated))
        candidate, first = student.table.split(student.table(candidate_rows))
        hidden = student.backbone.candidate(candidate, student.backbone.request(request))
        return torch.sigmoid(student.head(hidden) + first + request_first)


def find_or_train(data: str | None, vertical: str, out: Path, seed: int) -> Contestants:
    """Train and export both students, or take those of an earlier run with the same data, configuration and code.

    Args:
        data: folder of a log; None: what the environment names, else the simulator.
        vertical: which; "" for the first by name.
        out: for everything that is made.
        seed: of training.

    Raises:
        DataError, SchemaError: the log can't be read.
        ModelFolderError: the log has no such vertical.
        ExportRefusedError: a student must not be served.
    """
    source = open_source(resolve_data_dir(data, os.environ), seed)
    names = sorted(each.name for each in source.schema.verticals)
    if vertical and vertical not in names:
        raise ModelFolderError(f"{source.name} has no vertical {vertical}; it has: {', '.join(names)}")
    arms = train_arms(source, out / "arms", seed)
    folder = arms["own"].folder.parent / f"published-{vertical or names[0]}"
    version = code_digest(Path(exporter.__path__[0]), Path(naive.__file__), Path(__file__))
    made = Contestants(source.name, folder / "own", folder / "naive")
    stamp = folder / FINISHED
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != version:
        shutil.rmtree(folder, ignore_errors=True)
        publish_own(arms["own"], vertical or names[0], made.own, _whisper)
        publish_naive(arms["naive"], vertical or names[0], made.naive)
        stamp.write_text(version, encoding="utf-8")
    return made


def publish_own(arm: Trained, vertical: str, repository: Path, report: Callable[[str], None]) -> None:
    """Export as `exfm-export` does unless told otherwise: the fastest engine that is exact enough serves."""
    for name in (vertical, f"{vertical}.lite"):
        if (path := arm.checkpoint(name)).is_file():
            export(path, repository, ExportOptions(engines=ALL), report)


def publish_naive(arm: Trained, vertical: str, repository: Path) -> None:
    """Export the naive student, then put the graph that repeats the request's side in the place of the shared one."""
    checkpoint = load_checkpoint(arm.checkpoint(vertical))
    shared, graph = repository.with_name("shared"), repository.with_name("naive.onnx")
    export(arm.checkpoint(vertical), shared)
    write_graph(ReplicatedStudent(checkpoint.build_student()).eval(), checkpoint.schema, graph)
    model = find_model(shared, vertical)
    naive.repository_with(graph, model, repository, checkpoint.quality)


def _whisper(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
