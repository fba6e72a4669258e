"""`exfm-export CHECKPOINT`, or `exfm-export publish CHECKPOINT`."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from exporter.commands.arguments import add_trust, count, make_parser, share, show
from exporter.compare import MAX_NE_LOSS, QualityGate
from exporter.configure import DEFAULT_BATCHING, FORMERS
from exporter.engines.table import ALL, SERVER_PACKAGES
from exporter.export import Published, export
from exporter.options import QUICK_BUCKETS, QUICK_ENGINES, ExportOptions
from exporter.progress import on_stderr, say_on_stderr

AUTO = "auto"
DESCRIPTION = """\
Publish a trained student as the next version of its vertical in a Triton model repository.

Several engines are built from the student and timed side by side; the fastest whose probabilities are close enough to
torch's serves. Nothing is published unless the engine's weights are the serving student's and no others. A version is
written aside, synced and renamed into place, read-only, with a manifest (schema hash, sha256 per file, parity, quality,
latency, lineage) and a signature; then config.pbtxt names it. Whoever reads the repository meanwhile, or after a crash
at any moment, finds the old version or the new one, whole.

Refused, with nothing published: a teacher's checkpoint, a missing schema, weights that are not finite, a quality worse
than the served version's beyond --max-ne-loss, a served version that was tampered with, a key that is not trusted.
"""
EPILOG = """\
examples:
  exfm-export runs/feed_click.pt --repository model_repository
  exfm-export runs/feed_click.pt --repository model_repository --json | jq .version
  exfm-export runs/feed_click.pt --quick                  ONNX Runtime without a contest
  exfm-export runs/feed_click.pt --signing-key keys/release.pem --max-ne-loss 0.1%

exit codes: 0 published; 2 the checkpoint was refused or an argument is wrong; 1 the repository could not be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("publish", DESCRIPTION, EPILOG)
    made.usage = "exfm-export [publish] CHECKPOINT [--repository DIR] [options]"
    made.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a student's checkpoint, from exfm-train")
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
    add_trust(made)
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

    published = export(options.checkpoint, options.repository, export_options(options), report, on_stderr)
    show(options, published.to_dict(), _describe(published))
    return 0


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
