"""`exfm-prior`: refreshes the priors beside published models, while servers go on serving."""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from exfm.data.errors import DataError
from exfm.data.source import open_source, resolve_data_dir
from exfm.distill.config import ConfigError, load_config
from exfm.distill.refresh import FreshPrior, RefreshError, prior_of_checkpoint, priors_of_log, refresh
from exfm.features.schema import SchemaError
from exfm.models.checkpoint import CheckpointError, load_checkpoint

REFUSED = (DataError, SchemaError, ConfigError, RefreshError, CheckpointError)
DESCRIPTION = """\
Refresh the priors of published models: the estimate per ad that answers when there is no time for a model.

A prior is learned from a log in time order, in seconds, without any training; or it is taken from a student's
checkpoint. It is written as MODEL_REPOSITORY/<vertical>/prior.npz, whole or not at all. Running servers take it up
within about a second; published versions stay as they are. A prior that has learned less than the one published with
the model is refused by the server.
"""
EXAMPLES = """\
examples:
  exfm-prior --data /data/log --repository model_repository          from a log with its schema file
  exfm-prior --checkpoint build/run/students/feed_click.pt           from what exfm-train wrote
  exfm-prior --data /data/log --json | jq '.[].version'

exit codes: 0 written; 2 the log, the checkpoint or an argument was refused; 1 a file could not be written
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        written = [_written(asked.repository, fresh) for fresh in _fresh(asked)]
    except REFUSED as error:
        sys.stderr.write(f"exfm-prior: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"exfm-prior: {error}\n")
        return 1
    sys.stdout.write(json.dumps(written) + "\n" if asked.json else "".join(map(_line, written)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "exfm-prior", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="default: model_repository")
    add("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    add("--checkpoint", type=Path, nargs="+", default=[], metavar="FILE", help="students' checkpoints instead of a log")
    add("--config", type=Path, metavar="FILE", help="TOML over the source's packaged settings, as for exfm-train")
    add("--json", action="store_true", help="print what was written as JSON instead of lines")
    return parser


def _fresh(asked: argparse.Namespace) -> list[FreshPrior]:
    """All of them, made before the first is written, so that a refused log leaves the repository as it is."""
    if asked.checkpoint:
        return [_of_file(path) for path in asked.checkpoint]
    source = open_source(resolve_data_dir(asked.data, os.environ), 0)
    config = load_config(source.name, asked.config)
    rows = len(source.examples) * len(source.schema.verticals)
    bar: tqdm[NoReturn] = tqdm(total=rows, unit="row", desc=source.name, file=sys.stderr, leave=False)
    with bar:
        return list(priors_of_log(source, config, bar.update))


def _of_file(path: Path) -> FreshPrior:
    checkpoint = load_checkpoint(path)
    try:
        return prior_of_checkpoint(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _written(repository: Path, fresh: FreshPrior) -> dict[str, Any]:
    file = refresh(repository, fresh)
    measured = asdict(fresh.figures) if fresh.figures else {}
    figures = {key: value for key, value in measured.items() if math.isfinite(value)}
    facts = {name: getattr(file, name) for name in ("vertical", "version", "learned_until_ms")}
    return {**facts, "ads": len(file.ad), "last_day": figures}


def _line(written: dict[str, Any]) -> str:
    figures = ", ".join(f"{key} {written['last_day'][key]:.4f}" for key in ("auc", "ne") if key in written["last_day"])
    return f"{written['vertical']}: prior {written['version']} for {written['ads']:,} ads" + (
        f"; last day, predicted before learned: {figures}\n" if figures else "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
