"""The command `exfm-export`."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from exporter.configure import DEFAULT_BATCHING, Batching
from exporter.errors import ExportRefusedError
from exporter.export import Published, export

DESCRIPTION = """\
Publish a trained student as the next version of its vertical in a Triton model repository.

The student becomes an ONNX graph with a probability per task. Nothing is published unless the graph's weights are the
serving student's and no others, and its probabilities are torch's within 1e-5. A version is written aside, synced and
renamed into place, with a manifest (schema hash, sha256 per file, parity, quality, lineage); then config.pbtxt
names it.
"""
EPILOG = """\
examples:
  exfm-export runs/feed_click.pt --repository model_repository
  exfm-export runs/feed_click.pt --repository model_repository --json | jq .version

exit codes: 0 published; 2 the checkpoint was refused or an argument is wrong; 1 the repository could not be written
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(argv)
    batching = Batching(options.max_batch, options.max_queue, options.instances)
    started_s = time.monotonic()

    def report(step: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started_s:5.1f} s] {step}\n")

    try:
        published = export(options.checkpoint, options.repository, batching, report)
    except ExportRefusedError as error:
        sys.stderr.write(f"exfm-export: {str(error).splitlines()[0]}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"exfm-export: {options.repository}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(published.to_dict()) + "\n" if options.json else _describe(published))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="exfm-export", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a student's checkpoint, from exfm-train")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print what was published as one JSON object")
    group = parser.add_argument_group("how Triton batches requests")
    usual = DEFAULT_BATCHING
    group.add_argument("--max-batch", type=_count, default=usual.max_requests, help="requests in one run (%(default)s)")
    group.add_argument("--max-queue", type=_count, default=usual.max_queue, help="requests that wait (%(default)s)")
    group.add_argument(
        "--instances",
        type=_count,
        default=usual.instances,
        help="processes; with one or two a request now and then waits half a second (%(default)s)",
    )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _describe(published: Published) -> str:
    figures = f"{published.parameters:,} weights, parity {published.parity_max_abs:.1e}"
    head = f"published {published.vertical} version {published.version}: {published.path}"
    return f"{head}\n  {figures}, schema {published.schema_hash[:12]}\n"


if __name__ == "__main__":
    sys.exit(main())
