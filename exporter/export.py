"""Export one student, or a user's own model: load, convert, profile, verify, configure, package, publish."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from exfm.features.signature import DTYPES, PROBABILITY, tensors_of
from exfm.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from exporter.compare import Comparison
from exporter.configure import model_config
from exporter.destination import Destination, Judgement
from exporter.engines.table import choose_engine
from exporter.engines.trial import EngineChoice
from exporter.errors import ExportRefusedError
from exporter.integrity import FORMAT
from exporter.itinerary import Itinerary, Step
from exporter.lint.check import lint_config
from exporter.lint.facts import Facts
from exporter.metrics import add_budget_edges
from exporter.neighbours import refuse_graphs
from exporter.options import DEFAULT_OPTIONS, ExportOptions
from exporter.own_loading import load_own
from exporter.own_model import OwnFiles
from exporter.package import write_parts
from exporter.progress import Watch, unwatched
from exporter.proof import prove
from exporter.publish import Publication, publish
from exporter.staging import staging
from exporter.trace import ServedStudent
from exporter.verify import check_checkpoint


@dataclass(frozen=True)
class Published:
    """A version that now lies in the repository and is named by its config.pbtxt.

    Attributes:
        vertical: also the model's name in Triton.
        version: its number.
        path: its folder.
        schema_hash: the schema's digest, as config.pbtxt has it.
        parameters: numbers in the student's weights.
        parity_max_abs: largest difference to torch over the parity batches, absolute.
        engine: what runs it.
        signed_by: id of the key that vouches for it; None if it is unsigned.
        comparison: how it compares with the version that was served before.
        warnings: what whoever published it must know.
        steps: what was done, with the time that each step took.
    """

    vertical: str
    version: int
    path: Path
    schema_hash: str
    parameters: int
    parity_max_abs: float
    engine: str
    signed_by: str | None
    comparison: Comparison
    warnings: Sequence[str]
    steps: Sequence[Step]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        steps, comparison = [step.to_dict() for step in self.steps], self.comparison.to_dict()
        warnings = list(self.warnings)
        return {**vars(self), "path": str(self.path), "comparison": comparison, "warnings": warnings, "steps": steps}


def export(
    source: Path | OwnFiles,
    repository: Path,
    options: ExportOptions = DEFAULT_OPTIONS,
    report: Callable[[str], None] = lambda _: None,
    watch: Watch = unwatched,
) -> Published:
    """Publish the student of `source` as the next version of its vertical in `repository`.

    Args:
        source: what training wrote, or the files of a user's own model.
        repository: Triton's model repository; made if it is missing.
        options: engines, batching, keys and bounds.
        report: gets a line at each step.
        watch: shows how far a long step is.

    Raises:
        ExportRefusedError: the model must not be served; nothing was published.
        OSError: the repository cannot be written; nothing was published.
    """
    refuse_graphs(repository)
    itinerary = Itinerary(report, watch=watch)
    itinerary.begin("load", str(source))
    checkpoint, served = load_source(source)
    destination = Destination.open(repository, options)
    judgement = Judgement(destination, checkpoint, watch, itinerary.say)

    def guard(_: Path) -> Mapping[str, Any]:
        refuse_graphs(repository)
        judgement.again()
        return judgement.lineage

    with staging(repository) as folder:
        choice = _choose(checkpoint, served, folder, options, itinerary)
        itinerary.begin("verify", f"{choice.engine}, as the server will run it")
        answer = prove(folder, checkpoint, served, choice.bound)
        manifest = _manifest(judgement, choice, served, options)
        itinerary.begin("configure", "config.pbtxt")
        config = _configure(checkpoint, choice, options, manifest, itinerary)
        itinerary.begin("package", "schema, prior, golden request, runner")
        golden = {**checkpoint.golden, PROBABILITY: answer}
        write_parts(folder, checkpoint.schema, {"prior": vars(checkpoint.prior), "golden": golden})
        itinerary.begin("publish", f"into {repository}")
        publication = Publication(checkpoint.vertical, manifest, config, destination.signer, options.trusted_keys)
        path = publish(folder, repository, publication, guard, watch)
        itinerary.end()
    return Published(
        vertical=checkpoint.vertical,
        version=int(path.name),
        path=path,
        schema_hash=checkpoint.schema.digest,
        parameters=int(manifest["parameters"]),
        parity_max_abs=choice.parity,
        engine=choice.engine,
        signed_by=destination.signer.key_id if destination.signer else None,
        comparison=judgement.comparison,
        warnings=judgement.warnings,
        steps=itinerary.done,
    )


def load_source(source: Path | OwnFiles) -> tuple[Checkpoint, ServedStudent]:
    """A student's checkpoint or a user's own model, and the module that is served; `ExportRefusedError` as `export`."""
    return load_own(source) if isinstance(source, OwnFiles) else _load(source)


def _load(path: Path) -> tuple[Checkpoint, ServedStudent]:
    try:
        checkpoint = load_checkpoint(path)
        check_checkpoint(checkpoint)
        return checkpoint, ServedStudent(checkpoint.build_student()).eval()
    except CheckpointError as error:
        raise ExportRefusedError(str(error)) from error
    except ExportRefusedError as error:
        raise ExportRefusedError(f"{path}: {error}") from error


def _choose(
    checkpoint: Checkpoint, served: ServedStudent, folder: Path, options: ExportOptions, itinerary: Itinerary
) -> EngineChoice:
    def follow(text: str) -> None:
        if text.startswith("timing"):
            itinerary.begin("profile", text)
        else:
            itinerary.say(text)

    itinerary.begin("convert", ", ".join(options.engines))
    choice = choose_engine(
        checkpoint,
        served,
        folder,
        engines=options.engines,
        buckets=options.buckets,
        report=follow,
        watch=itinerary.watch,
        server_packages=options.server_packages,
    )
    for trial in choice.trials:
        itinerary.say(f"{trial.engine}: {'accepted' if trial.accepted else trial.reason}")
    return choice


def _configure(
    checkpoint: Checkpoint,
    choice: EngineChoice,
    options: ExportOptions,
    manifest: Mapping[str, Any],
    itinerary: Itinerary,
) -> Any:
    """The configuration, held to the linter's own rules."""
    batching, profile = options.batching, choice.chosen.profile
    config = model_config(checkpoint.schema, 1, batching, engine=choice.engine, profile=profile)
    if options.metric_buckets:
        add_budget_edges(config, checkpoint.schema.verticals[0].budget_ms)
    hold_to_rules(config, Facts(checkpoint.vertical, options.host, manifest), itinerary)
    return config


def hold_to_rules(config: Any, facts: Facts, itinerary: Itinerary) -> None:
    """Say the linter's warnings of a configuration; `ExportRefusedError` at an error."""
    for finding in lint_config(config, facts):
        if finding.severity == "error":
            raise ExportRefusedError(f"config.pbtxt: {finding.what}: {finding.effect}")
        if finding.severity == "warning":
            itinerary.say(f"config.pbtxt: {finding.what}: {finding.effect}")


def _manifest(
    judgement: Judgement, choice: EngineChoice, served: ServedStudent, options: ExportOptions
) -> Mapping[str, Any]:
    """All of the manifest but the version and the files' hashes."""
    tensors = tensors_of(judgement.checkpoint.schema)
    return {
        **common_manifest(judgement, served),
        "tensors": [{"name": t.name, "dtype": np.dtype(DTYPES[t.kind]).name, "width": t.width} for t in tensors],
        "batching": options.batching.to_dict(),
        **choice.to_dict(),
    }


def common_manifest(judgement: Judgement, served: ServedStudent) -> dict[str, Any]:
    """What the manifest of any form of a model says of it: whose it is, how good, what it was made from."""
    checkpoint = judgement.checkpoint
    (vertical,) = checkpoint.schema.verticals
    return {
        "format": FORMAT,
        "vertical": checkpoint.vertical,
        "tasks": list(checkpoint.tasks),
        "schema_hash": checkpoint.schema.digest,
        "budget_ms": vertical.budget_ms,
        "max_candidates": vertical.max_candidates,
        "parameters": sum(weight.numel() for weight in served.state_dict().values()),
        "quality": checkpoint.quality,
        **judgement.lineage,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
