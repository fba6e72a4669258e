"""`exfm-train`: a teacher over all verticals and students per vertical, from one pass over a log."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from exfm.commands.stopping import stopping
from exfm.data.annotated import StreamForm
from exfm.data.continued import ContinuationError
from exfm.data.cursor import CONSUMER
from exfm.data.errors import DataError
from exfm.data.source import open_source, resolve_data_dir
from exfm.data.windows import WINDOW
from exfm.distill.config import ConfigError, TrainConfig, load_config
from exfm.distill.counters import CounterError
from exfm.distill.scoring import TrainingReport
from exfm.distill.state_file import StateError
from exfm.distill.streaming import StreamOrder, train_stream
from exfm.distill.trainer import Progress, TrainingError
from exfm.distill.training import train
from exfm.features.schema import SchemaError
from exfm.models.backbone import ModelError

REFUSED = (DataError, SchemaError, ConfigError, CounterError, ModelError, TrainingError, StateError, ContinuationError)
DESCRIPTION = """\
Train a teacher (the foundation model) and two students per vertical, one of them for tier lite, in one pass over a
log, in time order.

Each chunk of impressions is annotated by the teacher, predicted and learned by the students, and only then
learned by the teacher. So every figure is of rows predicted before they were learned, and no annotation comes
from a teacher that has seen the row's outcome. One more student per vertical learns without the teacher, to show
what distillation is worth.

With --stream it learns an example stream (of exfm-annotate) in windows of bounded size, the log of --data before it if
there is one. With --resume it goes on where the run before stopped and learns what has come since: each row once, also
if a run was killed. Rows come in the order in which the join's watermark found their labels to be complete, by time
within a window: in order of time per vertical, but for rows that were logged later than the join's lateness.
"""
COLUMNS = ("AUC", "alone", "teacher", "lite", "NE", "alone", "teacher", "lite", "calib.", "lite")
EXAMPLES = """\
examples:
  exfm-train                                    the simulator, into build/run
  exfm-train --data /data/log --out build/run   a log with its schema file, or KuaiRand-Pure
  EXFM_DATA_DIR=/data/log exfm-train --json     the same; the report on standard output as JSON
  exfm-train --config mine.toml --seed 3        over the packaged settings of the source
  exfm-train --stream build/async/stream --resume             what has come since the last run, every hour
  exfm-train --stream build/async/stream --resume --follow    what comes, a minute of it at a time, until stopped
  exfm-train --data /data/log --stream build/async/stream     a log and the stream behind it

writes:
  OUT/teacher.pt  OUT/students/<vertical>.pt  OUT/students/<vertical>.lite.pt
  OUT/metrics.json  OUT/learning.png  and from a stream OUT/training.pt, to go on from

Next: exfm-export publishes the students.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 the input or its settings were refused."""
    asked = _asked(arguments)
    try:
        report = _train_stream(asked) if asked.stream else _train(asked)
    except REFUSED as error:
        sys.stderr.write(f"exfm-train: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"exfm-train: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report.to_dict()) + "\n" if asked.json else _table(report, asked.out))
    return 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    asked = parser.parse_args(arguments)
    for name in ("resume", "follow"):
        if getattr(asked, name) and not asked.stream:
            parser.error(f"--{name} needs --stream")
    return asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "exfm-train",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    _add_stream(parser)
    parser.add_argument("--out", type=Path, default=Path("build/run"), metavar="DIR", help="default: build/run")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML over the source's packaged settings")
    parser.add_argument("--seed", type=int, help="of weights, shuffling and the simulator (default: the settings', 0)")
    parser.add_argument(
        "--threads", type=_count, default=1, help="of torch (default: 1; batches are too small for more)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    return parser


def _add_stream(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--stream", type=Path, metavar="DIR", help="example stream to learn, behind the log of --data if that is given")
    add("--resume", action="store_true", help="go on from OUT/training.pt; begin where there is none")
    follow = "go on as rows come, publishing each time, until SIGTERM or SIGINT; then end with 0"
    add("--follow", action="store_true", help=follow)
    add("--window-rows", type=_count, default=WINDOW, metavar="N", help=f"of the stream, held in memory ({WINDOW})")
    seconds = "how often OUT/training.pt is written on the way, and how long a window may fill with --follow (60)"
    add("--checkpoint-s", type=_seconds, default=60.0, metavar="S", help=seconds)
    cursor = "name of this reader in the stream, whose retention waits for it (one that is made from OUT's path)"
    add("--consumer", type=_name, metavar="NAME", help=cursor)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be >= 0 and finite, got {text}")
    return value


def _name(text: str) -> str:
    if not CONSUMER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a name is made of letters, digits, '_' and '-'")
    return text


def _train(asked: argparse.Namespace) -> TrainingReport:
    source = open_source(resolve_data_dir(asked.data, os.environ), asked.seed or 0)
    config = _config(asked, source.name)
    with _bar(source.name) as bar:
        return train(source, config, asked.out, _shown_on(bar), threads=asked.threads)


def _train_stream(asked: argparse.Namespace) -> TrainingReport:
    name = StreamForm.load(asked.stream).schema.name
    log = resolve_data_dir(asked.data, {})
    order = StreamOrder(
        asked.stream,
        asked.out,
        (lambda: open_source(log, asked.seed or 0)) if log else None,
        resume=asked.resume,
        window=asked.window_rows,
        checkpoint_s=asked.checkpoint_s,
        consumer=asked.consumer,
        threads=asked.threads,
    )
    config = _config(asked, name)
    with stopping() if asked.follow else nullcontext() as stop, _bar(name) as bar:
        return train_stream(replace(order, stop=stop), config, _shown_on(bar))


def _config(asked: argparse.Namespace, source: str) -> TrainConfig:
    return load_config(source, asked.config, {} if asked.seed is None else {"seed": asked.seed})


def _bar(name: str) -> "tqdm[NoReturn]":
    return tqdm(unit="row", desc=name, file=sys.stderr, leave=False)


def _shown_on(bar: "tqdm[NoReturn]") -> Callable[[Progress], None]:
    def show(step: Progress) -> None:
        bar.total = step.total
        bar.set_postfix({f"NE {name}": f"{ne:.4f}" for name, ne in step.ne.items()}, refresh=False)
        bar.update(step.done - bar.n)

    return show


def _table(report: TrainingReport, out: Path) -> str:
    lines = [
        f"{report.data}: {report.rows:,} rows in {report.seconds:.1f} s, last day, predicted before learned",
        f"{'vertical':<18}{'task':<14}" + "".join(f"{name:>9}" for name in COLUMNS),
    ]
    for name, tasks in report.verticals.items():
        for task, each in tasks.items():
            aucs = each.auc, each.auc_no_distill, each.teacher_auc, each.lite_auc
            nes = each.ne, each.ne_no_distill, each.teacher_ne, each.lite_ne
            figures = "".join(f"{_cell(value):>9}" for value in (*aucs, *nes, each.calibration, each.lite_calibration))
            lines.append(f"{name:<18}{task:<14}{figures}")
    return "\n".join([*lines, f"written to {out}", ""])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
