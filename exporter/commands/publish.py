"""`exfm-export CHECKPOINT`, or `exfm-export publish CHECKPOINT`; with `--model` a user's own model."""

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import replace

from exporter.commands.arguments import count, make_parser, show
from exporter.commands.source import add_keys, add_quality, add_source, reporter, source_of
from exporter.compare import QualityGate
from exporter.configure import DEFAULT_BATCHING, FORMERS, LEAST_INSTANCES, MOST_INSTANCES, instances_for
from exporter.engines.environment import server_packages
from exporter.engines.table import ALL, SERVER_PACKAGES
from exporter.export import Published, export
from exporter.lint.facts import this_host
from exporter.options import QUICK_BUCKETS, QUICK_ENGINES, ExportOptions
from exporter.progress import on_stderr

AUTO = "auto"
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
    add_source(made)
    engines = made.add_argument_group("what runs the model")
    engines.add_argument("--engine", choices=(AUTO, *ALL), help="only this one; auto, the default, tries all of them")
    engines.add_argument("--quick", action="store_true", help="no contest unless --engine is given, and few timings")
    _add_server(engines)
    add_quality(made)
    add_keys(made)
    _add_batching(made)
    _add_metrics(made)
    return made


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--server-has",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="what the server's environment offers to an engine besides what is found there, say torch in a vendor's "
        "container; may be repeated. The environment asked is EXFM_TRITON_ENV, else .venv-triton; where there is none "
        f"yet, {' and '.join(SERVER_PACKAGES)} are taken for granted, which the embedded server will bring",
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
        "--cores",
        type=count,
        metavar="N",
        help="cores of the machine that serves, if it is another one (those that may be used here)",
    )
    group.add_argument(
        "--instances",
        type=count,
        help="processes of one thread, each with the weights in its own memory; by default one per core of the machine "
        f"that serves and one that stays free, from {LEAST_INSTANCES} (with one or two a request now and then waits "
        f"half a second) to {MOST_INSTANCES} (the other cores are for frontends and other verticals)",
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
    with redirect_stdout(sys.stderr):  # an own model's code may print, and stdout is for the result
        published = export(source_of(options), options.repository, export_options(options), reporter(), on_stderr)
    show(options, published.to_dict(), _describe(published))
    return 0


def export_options(options: argparse.Namespace) -> ExportOptions:
    """What the arguments ask for."""
    asked = options.engine or (QUICK_ENGINES[0] if options.quick else AUTO)
    host = this_host()
    host = replace(host, cores=options.cores or host.cores)
    made = ExportOptions(
        batching=replace(
            DEFAULT_BATCHING,
            max_requests=options.max_batch,
            max_queue=options.max_queue,
            instances=options.instances or instances_for(host.cores),
            by=options.batching,
        ),
        engines=ALL if asked == AUTO else (asked,),
        gate=QualityGate(options.max_ne_loss, options.allow_worse),
        signing_key=options.signing_key,
        trusted_keys=options.trusted_keys,
        metric_buckets=options.metric_buckets,
        server_packages=(*server_packages(), *options.server_has),
        host=host,
    )
    return replace(made, buckets=QUICK_BUCKETS) if options.quick else made


def _describe(published: Published) -> str:
    figures = f"{published.parameters:,} weights, {published.engine}, parity {published.parity_max_abs:.1e}"
    head = f"published {published.vertical} version {published.version}: {published.path}"
    signed = f"signed by {published.signed_by}" if published.signed_by else "UNSIGNED"
    return f"{head}\n  {figures}, schema {published.schema_hash[:12]}, {signed}\n"
