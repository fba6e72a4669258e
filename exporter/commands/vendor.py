"""`exfm-export vendor`."""

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from exporter.commands.arguments import count, make_parser, show
from exporter.commands.source import add_keys, add_quality, add_source, reporter, source_of
from exporter.compare import QualityGate
from exporter.itinerary import Itinerary
from exporter.options import ExportOptions
from exporter.progress import on_stderr
from exporter.vendor import BACKENDS, PER_GPU, SCRIPT
from exporter.vendor_export import STEPS, VendorModel, export_graph

REPOSITORY = Path("vendor_repository")
DESCRIPTION = """\
Publish a trained student, or a model of your own, for Triton's own ONNX Runtime or TensorRT backend, as NVIDIA's
container has them: the whole graph, embedding table inside, as the next version of the model <vertical>_graph.

It goes into a model repository of its own, for that container's Triton alone. What this Triton is asked is encoded:
request_rows and candidate_rows, as exfm.features.encoding makes them, and owner, which says whose each candidate is;
exfm-serve does not ask it. A folder that belongs to a repository which exfm-serve reads is refused.

The graph is held to torch's probabilities in ONNX Runtime on this machine's CPU before anything is published, within
1e-5; golden.npz in the version's folder has a request, encoded, and torch's answer, to ask the container for. A version
is written aside, synced and renamed into place, with a manifest and a signature; list, verify, diff, rollback, prune
and lint look after it with the same --repository.

A plan of TensorRT's is good for one release of the container on one kind of GPU, and is made there: run trtexec.sh in
the version's folder before Triton loads it. Nobody has signed the plan; the graph that it is made of is signed.
"""
EPILOG = """\
examples:
  exfm-export vendor runs/feed_click.pt
  exfm-export vendor runs/feed_click.pt --repository /srv/graphs --json | jq .parity_max_abs
  exfm-export vendor runs/feed_click.pt --backend tensorrt --instances 4
  sh vendor_repository/feed_click_graph/1/trtexec.sh                  in the container, on the GPU that will serve
  exfm-export lint --repository vendor_repository --gpus 1

exit codes: 0 published; 2 the model or the repository was refused, or an argument is wrong; 1 the repository could not
be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("vendor", DESCRIPTION, EPILOG)
    made.set_defaults(repository=REPOSITORY)
    made.usage = (
        "exfm-export vendor CHECKPOINT [--backend NAME] [--repository DIR] [options]\n"
        "       exfm-export vendor --model FILE.py:FACTORY --weights FILE --schema FILE --golden FILE [options]"
    )
    add_source(made)
    group = made.add_argument_group("what runs the model")
    group.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], help="Triton's own (%(default)s)")
    group.add_argument(
        "--instances",
        type=count,
        default=PER_GPU.instances,
        help="copies of the model on each GPU, each with its own weights there; with one or two a request now and then "
        "waits half a second (%(default)s)",
    )
    group.add_argument("--max-queue", type=count, help="calls that wait in Triton (128)")
    add_quality(made)
    add_keys(made)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    asked = ExportOptions(
        batching=replace(PER_GPU, instances=options.instances, max_queue=options.max_queue),
        gate=QualityGate(options.max_ne_loss, options.allow_worse),
        signing_key=options.signing_key,
        trusted_keys=options.trusted_keys,
    )
    with redirect_stdout(sys.stderr):  # an own model's code may print, and stdout is for the result
        itinerary = Itinerary(reporter(), watch=on_stderr, steps=STEPS)
        made = export_graph(source_of(options), options.repository, options.backend, asked, itinerary)
    show(options, made.to_dict(), _describe(made))
    return 0


def _describe(made: VendorModel) -> str:
    figures = f"{made.parameters:,} weights, {made.engine}, parity {made.parity_max_abs:.1e}"
    signed = f"signed by {made.signed_by}" if made.signed_by else "UNSIGNED"
    lines = [f"published {made.vertical} version {made.version}: {made.path}"]
    lines.append(f"  {figures} ({made.golden_max_abs:.1e} on the golden request), {signed}")
    if made.command:
        lines.append(f"  to be run in the container before Triton loads it: sh {made.path / SCRIPT}, which is")
        lines.append(f"  {' '.join(made.command)}")
    return "\n".join(lines)
