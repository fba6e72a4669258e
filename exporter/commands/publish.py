"""`exfm-export CHECKPOINT`, or `exfm-export publish CHECKPOINT`; with `--model` a user's own model."""

import argparse
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from exporter.commands.arguments import add_trust, count, make_parser, share, show
from exporter.compare import MAX_NE_LOSS, QualityGate
from exporter.configure import DEFAULT_BATCHING, FORMERS
from exporter.engines.table import ALL, SERVER_PACKAGES
from exporter.errors import ExportRefusedError
from exporter.export import Published, export
from exporter.options import QUICK_BUCKETS, QUICK_ENGINES, ExportOptions
from exporter.own_model import OwnFiles
from exporter.progress import on_stderr, say_on_stderr

AUTO = "auto"
NEEDED, FURTHER = ("model", "weights", "schema", "golden"), ("vertical", "quality", "prior")
"""Arguments that say what a user's own model is."""
DESCRIPTION = """\
Publish a trained student as the next version of its vertical in a Triton model repository, or a model of your own:
with --model, --weights, --schema and --golden in place of CHECKPOINT (docs/export.md, "A model of your own").

Several engines are built from the student and timed side by side; the fastest whose probabilities are close enough to
torch's serves. Nothing of a student's is published unless the weights are the serving ones and no others. A version is
written aside, synced and renamed into place, read-only, with a manifest (schema hash, sha256 per file, parity, quality,
latency, lineage) and a signature; then config.pbtxt names it. Whoever reads the repository meanwhile, or after a crash
at any moment, finds the old version or the new one, whole.

Refused, with nothing published: a teacher's checkpoint, a missing schema, weights that are not finite, a quality worse
than the served version's beyond --max-ne-loss, a served version that was tampered with, a key that is not trusted; and
an own model whose probabilities are not the golden batch's.
"""
EPILOG = """\
examples:
  exfm-export runs/feed_click.pt --repository model_repository
  exfm-export runs/feed_click.pt --repository model_repository --json | jq .version
  exfm-export runs/feed_click.pt --quick                  ONNX Runtime without a contest
  exfm-export runs/feed_click.pt --signing-key keys/release.pem --max-ne-loss 0.1%
  exfm-export --model deepfm.py:build --weights deepfm.pt --schema feed.toml --golden golden.npz

exit codes: 0 published; 2 the model was refused or an argument is wrong; 1 the repository could not be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("publish", DESCRIPTION, EPILOG)
    made.usage = (
        "exfm-export [publish] CHECKPOINT [--repository DIR] [options]\n"
        "       exfm-export [publish] --model FILE.py:FACTORY --weights FILE --schema FILE --golden FILE [options]"
    )
    made.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="a student's checkpoint, from exfm-train"
    )
    _add_own(made)
    engines = made.add_argument_group("what runs the model")
    engines.add_argument("--engine", choices=(AUTO, *ALL), help="only this one; auto, the default, tries all of them")
    engines.add_argument("--quick", action="store_true", help="no contest unless --engine is given, and few timings")
    _add_server(engines)
    quality = made.add_argument_group("how good it must be")
    quality.add_argument(
        "--max-ne-loss",
        type=share,
        default=MAX_NE_LOSS,
        metavar="SHARE",
        help="how much larger than the served version's the NE of a task may be (0.5%%)",
    )
    quality.add_argument("--allow-worse", action="store_true", help="publish all the same; the lineage says so")
    keys = made.add_argument_group("who vouches for it")
    keys.add_argument(
        "--signing-key",
        type=Path,
        metavar="FILE",
        help="ed25519 key, PEM; else the file named by EXFM_SIGNING_KEY, else REPOSITORY/.keys/signing.pem, else none",
    )
    add_trust(made, changing=True)
    _add_batching(made)
    _add_metrics(made)
    return made


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--server-has",
        action="append",
        default=[],
        metavar="PACKAGE",
        help=f"what the server's environment offers to an engine besides {', '.join(SERVER_PACKAGES)}, say torch in a "
        "vendor's container; may be repeated",
    )


def _add_own(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("a model of your own, in place of CHECKPOINT")
    group.add_argument(
        "--model",
        metavar="FILE.py:FACTORY",
        help="or PACKAGE.MODULE:FACTORY; called with the vertical's schema, returns the torch.nn.Module: int64 "
        "request_rows [B, .], candidate_rows [M, .] and owner [M] to float32 logits [M, tasks]. Your code is run here, "
        "never in the server",
    )
    group.add_argument("--weights", type=Path, metavar="FILE", help="the module's state dict, by torch.save")
    group.add_argument("--schema", type=Path, metavar="FILE", help="features, tasks and verticals, TOML or JSON")
    group.add_argument(
        "--golden",
        type=Path,
        metavar="FILE.npz",
        help="requests as raw tensors, the `probability` expected for each candidate, outcomes as `label` if known",
    )
    group.add_argument("--vertical", default="", metavar="NAME", help="which of the schema's, if it has several")
    group.add_argument(
        "--quality", type=Path, metavar="FILE.json", help="`ne` and `auc` over days held out (from `label`)"
    )
    group.add_argument(
        "--prior",
        type=Path,
        metavar="FILE.npz",
        help="estimates per ad for when no model can be asked (the golden batch's mean for every ad)",
    )


def _add_batching(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("how requests become batches")
    usual = DEFAULT_BATCHING
    group.add_argument(
        "--batching",
        choices=FORMERS,
        default=usual.by,
        help="who forms them: the frontend, earliest deadline first, or Triton's dynamic batcher (%(default)s)",
    )
    group.add_argument("--max-batch", type=count, default=usual.max_requests, help="requests in one run (%(default)s)")
    group.add_argument("--max-queue", type=count, help="calls that wait in Triton (as many as fit into the budget)")
    group.add_argument(
        "--instances",
        type=count,
        default=usual.instances,
        help="processes; with one or two a request now and then waits half a second (%(default)s)",
    )


def _add_metrics(made: argparse.ArgumentParser) -> None:
    made.add_argument_group("what Triton counts").add_argument(
        "--metric-buckets",
        action="store_true",
        help="its latency histogram gets an edge at the budget; not for a Triton without model_metrics, such as the "
        "embedded 2.51, which could not read the configuration",
    )


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    started_s = time.monotonic()

    def report(step: str) -> None:
        say_on_stderr(f"[{time.monotonic() - started_s:5.1f} s] {step}")

    with redirect_stdout(sys.stderr):  # an own model's code may print, and stdout is for the result
        published = export(source_of(options), options.repository, export_options(options), report, on_stderr)
    show(options, published.to_dict(), _describe(published))
    return 0


def source_of(options: argparse.Namespace) -> Path | OwnFiles:
    """The checkpoint, or the user's own model; `ExportRefusedError` if it is neither or both."""
    given = [name for name in (*NEEDED, *FURTHER) if getattr(options, name)]
    missing = [name for name in NEEDED if name not in given]
    if options.checkpoint is not None:
        if given:
            raise ExportRefusedError(f"--{given[0]}: is of a model of your own, and takes no CHECKPOINT beside it")
        return Path(options.checkpoint)
    if missing == list(NEEDED):
        raise ExportRefusedError("neither CHECKPOINT nor --model was given; see --help")
    if missing:
        raise ExportRefusedError(f"--{missing[0]}: is missing; a model of your own needs --{', --'.join(NEEDED)}")
    return OwnFiles(**{name: getattr(options, name) for name in (*NEEDED, *FURTHER)})


def export_options(options: argparse.Namespace) -> ExportOptions:
    """What the arguments ask for."""
    asked = options.engine or (QUICK_ENGINES[0] if options.quick else AUTO)
    made = ExportOptions(
        batching=replace(
            DEFAULT_BATCHING,
            max_requests=options.max_batch,
            max_queue=options.max_queue,
            instances=options.instances,
            by=options.batching,
        ),
        engines=ALL if asked == AUTO else (asked,),
        gate=QualityGate(options.max_ne_loss, options.allow_worse),
        signing_key=options.signing_key,
        trusted_keys=options.trusted_keys,
        metric_buckets=options.metric_buckets,
        server_packages=(*SERVER_PACKAGES, *options.server_has),
    )
    return replace(made, buckets=QUICK_BUCKETS) if options.quick else made


def _describe(published: Published) -> str:
    figures = f"{published.parameters:,} weights, {published.engine}, parity {published.parity_max_abs:.1e}"
    head = f"published {published.vertical} version {published.version}: {published.path}"
    signed = f"signed by {published.signed_by}" if published.signed_by else "UNSIGNED"
    return f"{head}\n  {figures}, schema {published.schema_hash[:12]}, {signed}\n"
