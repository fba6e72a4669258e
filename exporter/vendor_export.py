"""Publish a model's whole graph for Triton's own backends, in a repository of NVIDIA's container alone."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from exfm.features.signature import HISTORY, PROBABILITY
from exfm.models.checkpoint import Checkpoint
from exporter.destination import Destination, Judgement
from exporter.engines.accuracy import compare, run_batch
from exporter.engines.candidate import Candidate
from exporter.engines.recipes import RECIPES
from exporter.engines.table import fastest, try_engines
from exporter.engines.trial import Trial
from exporter.errors import ExportRefusedError
from exporter.export import Published, common_manifest, hold_to_rules, load_source
from exporter.golden import encode_request
from exporter.home import CONFIG
from exporter.integrity import MADE_LATER
from exporter.itinerary import Itinerary
from exporter.lint.facts import Facts, Host
from exporter.neighbours import refuse_served
from exporter.options import ExportOptions
from exporter.own_model import OwnFiles
from exporter.package import write_data
from exporter.proof import prove
from exporter.publish import Publication, publish
from exporter.runner.engine import ENGINE_FILE
from exporter.staging import staging
from exporter.trace import CANDIDATE_ROWS, OWNER, REQUEST_ROWS, ServedStudent
from exporter.vendor import (
    PARTIAL,
    PER_GPU,
    PLAN,
    SCRIPT,
    SUFFIX,
    Backend,
    tensorrt_command,
    tensorrt_script,
    tensors_in,
    vendor_config,
)

STEPS = ("load", "convert", "verify", "configure", "package", "publish")
GRAPH = "onnx"
"""The recipe of the whole graph."""
DEFAULT_OPTIONS = ExportOptions(batching=PER_GPU)


@dataclass(frozen=True)
class VendorModel(Published):
    """A graph that now lies in a repository for NVIDIA's container; its `engine` is the backend.

    Attributes:
        golden_max_abs: the largest difference to torch over the golden request, absolute.
        command: what makes `model.plan` in the container, run in the version's folder; empty for ONNX Runtime.
    """

    golden_max_abs: float
    command: tuple[str, ...]


def export_graph(
    source: Path | OwnFiles,
    repository: Path,
    backend: Backend,
    options: ExportOptions = DEFAULT_OPTIONS,
    itinerary: Itinerary | None = None,
) -> VendorModel:
    """Publish the graph of `source` as the next version of `<vertical>_graph` in `repository`.

    Args:
        source: what training wrote, or the files of a user's own model.
        repository: one for NVIDIA's container alone; made if it is missing.
        backend: what will run it.
        options: of them batching, keys and bounds.
        itinerary: of `STEPS`; tells how far it is.

    Raises:
        ExportRefusedError: the model must not be served, or the repository is the frontend's; nothing was published.
        OSError: the repository cannot be written; nothing was published.
    """
    refuse_served(repository)
    itinerary = itinerary or Itinerary(steps=STEPS)
    itinerary.begin("load", str(source))
    checkpoint, served = load_source(source)
    destination = Destination.open(repository, options, SUFFIX)
    judgement = Judgement(destination, checkpoint, itinerary.watch, itinerary.say)
    job = _Job(checkpoint, served, judgement, backend, options, itinerary)

    def guard(_: Path) -> Mapping[str, Any]:
        refuse_served(repository)
        judgement.again()
        return judgement.lineage

    with staging(repository) as folder:
        proof = job.build(folder)
        config, manifest = job.configure(folder, proof)
        job.package(folder, proof)
        itinerary.begin("publish", f"into {repository}")
        publication = Publication(config.name, manifest, config, destination.signer, options.trusted_keys)
        path = publish(folder, repository, publication, guard, itinerary.watch)
        itinerary.end()
    return job.result(publication, path, proof)


@dataclass(frozen=True)
class _Proof:
    """What was found of the graph: its trial, its difference over the golden request, and that request with answers."""

    trial: Trial
    golden_max_abs: float
    golden: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Job:
    """One publication, step by step."""

    checkpoint: Checkpoint
    served: ServedStudent
    judgement: Judgement
    backend: Backend
    options: ExportOptions
    itinerary: Itinerary

    def build(self, folder: Path) -> _Proof:
        """Convert, hold the probabilities to torch's, and move the graph's files into the folder."""
        self.itinerary.begin("convert", "the whole graph, to ONNX")
        with tempfile.TemporaryDirectory(prefix=".trials-", dir=folder) as work:
            trials, built = try_engines(
                self.checkpoint, self.served, Path(work), engines=(GRAPH,), sizes=(), watch=self.itinerary.watch
            )
            trial = fastest(trials)
            self.itinerary.begin("verify", "the graph in ONNX Runtime, on the CPU")
            proof = self._prove(trial, built[GRAPH])
            for path in built[GRAPH].folder.iterdir():  # a large graph has its weights beside it
                if path.name != ENGINE_FILE:
                    path.replace(folder / path.name)
        return proof

    def _prove(self, trial: Trial, graph: Candidate) -> _Proof:
        answer = prove(graph.folder, self.checkpoint, self.served, RECIPES[GRAPH].bound)
        batch = encode_request(self.checkpoint.schema, self.checkpoint.golden)
        off = compare(run_batch(graph.engine, batch), answer).max_difference
        golden = {REQUEST_ROWS: batch.request_rows, CANDIDATE_ROWS: batch.candidate_rows, OWNER: batch.owner}
        past = {} if batch.history is None else {HISTORY: batch.history}
        return _Proof(trial, off, {**golden, **past, PROBABILITY: answer})

    def configure(self, folder: Path, proof: _Proof) -> tuple[Any, Mapping[str, Any]]:
        """The configuration, which names the graph's own tensors and keeps the linter's rules, and the manifest."""
        self.itinerary.begin("configure", f"{CONFIG} for {self.backend}")
        config = vendor_config(self.checkpoint.schema, 1, self.backend, self.options.batching)
        graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
        for kind, named, found in (("input", config.input, graph.input), ("output", config.output, graph.output)):
            if strange := {entry.name for entry in named} ^ {entry.name for entry in found}:
                raise ExportRefusedError(f"graph: {kind} {min(strange)} is not in both, graph and configuration")
        trial, later = proof.trial, {MADE_LATER: [PLAN, PARTIAL]} if self.backend == "tensorrt" else {}
        manifest = {
            **common_manifest(self.judgement, self.served),
            "vertical": config.name,
            "engine": self.backend,
            "graph": tensors_in(config),
            "parity": {
                "max_abs": trial.max_difference,
                "golden_max_abs": proof.golden_max_abs,
                "bound": RECIPES[GRAPH].bound,
                "ne_loss": trial.ne_loss,
            },
            **later,
        }
        hold_to_rules(config, Facts(config.name, Host(self.options.host.cores, gpus=1), manifest), self.itinerary)
        return config, manifest

    def package(self, folder: Path, proof: _Proof) -> None:
        """Put beside the graph what those need who run it."""
        plan = self.backend == "tensorrt"
        self.itinerary.begin("package", "schema, golden request" + (f", {SCRIPT}" if plan else ""))
        write_data(folder, self.checkpoint.schema, {"golden": proof.golden})
        if plan:
            (folder / SCRIPT).write_text(tensorrt_script(self.checkpoint.schema), encoding="utf-8")

    def result(self, publication: Publication, path: Path, proof: _Proof) -> VendorModel:
        """What was published, and where."""
        schema, signer = self.checkpoint.schema, publication.signer
        return VendorModel(
            vertical=publication.vertical,
            version=int(path.name),
            path=path,
            schema_hash=schema.digest,
            parameters=publication.manifest["parameters"],
            parity_max_abs=publication.manifest["parity"]["max_abs"],
            engine=self.backend,
            signed_by=signer.key_id if signer else None,
            comparison=self.judgement.comparison,
            warnings=self.judgement.warnings,
            steps=self.itinerary.done,
            golden_max_abs=proof.golden_max_abs,
            command=tensorrt_command(schema) if self.backend == "tensorrt" else (),
        )
