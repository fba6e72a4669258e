"""`python -m exfm.commands.train_sharded`, under torchrun: a teacher whose tables are spread over processes."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from exfm.data.errors import DataError
from exfm.data.source import open_source, resolve_data_dir
from exfm.distill.config import ConfigError, load_config
from exfm.distill.counters import CounterError
from exfm.distill.trainer import TrainingError
from exfm.features.schema import SchemaError
from exfm.models.backbone import ModelError
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError, require_torchrec
from exfm.models.sharded.ranks import Ranks, joined_ranks

REFUSED = (DataError, SchemaError, ConfigError, CounterError, ModelError, TrainingError, ShardingError)
PROGRAM = "python -m exfm.commands.train_sharded"
DESCRIPTION = """\
Train a teacher that is too large for one process: each feature's rows are spread over all processes (torchrec,
row-wise), everything else is the same on each; gloo on processors, NCCL on GPUs. It learns what exfm-train's teacher
learns, in one pass in time order, each chunk predicted before it is learned. There are no students: they learn from
the stream that exfm-annotate makes with this teacher.

All processes need to see the log and OUT.
"""
EXAMPLES = """\
examples:
  torchrun --nproc-per-node 2 -m exfm.commands.train_sharded --data /data/log --out build/run
  torchrun --nproc-per-node 3 -m exfm.commands.train_sharded --data /data/tomorrow --from build/run/teacher.sharded
  exfm-annotate publish build/run/teacher.pt --name monday

writes:
  OUT/teacher.sharded/   every process its part; any number of processes goes on from it with --from
  OUT/training.sharded/  on the way, for --resume if the run is cut off; removed at its end
  OUT/teacher.pt         the same as an ordinary teacher, where the first process's memory has room for it

exit codes: 0 done, 1 failed, 2 the input, the settings or the installation were refused
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in one of the processes; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        require_torchrec()
        with joined_ranks(asked.wait_s) as ranks:
            told = _train(asked, ranks)
    except REFUSED as error:
        return _failed(error, 2)
    except (OSError, RuntimeError) as error:  # another process's death is a RuntimeError here
        return _failed(error, 1)
    sys.stdout.write(told)
    return 0


def _failed(error: Exception, code: int) -> int:
    if os.environ.get("RANK", "0") == "0" or code == 1:
        sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
    return code


def _train(asked: argparse.Namespace, ranks: Ranks) -> str:
    """What to print; nothing but on the first rank."""
    from exfm.distill.sharded.training import PLACE, TeacherRun  # noqa: PLC0415  # imports torchrec

    torch.set_num_threads(asked.threads)
    source = open_source(resolve_data_dir(asked.data, os.environ), asked.seed or 0)
    overrides = {} if asked.seed is None else {"seed": asked.seed}
    config = load_config(source.name, asked.config, overrides)
    first = ranks.rank == 0
    bar: tqdm[NoReturn] = tqdm(
        total=len(source.examples), unit="row", desc=source.name, file=sys.stderr, leave=False, disable=not first
    )
    with bar:
        cut_off = asked.out / PLACE if asked.resume and checkpoint.exists(asked.out / PLACE) else None
        run = TeacherRun(source, config, ranks, None if cut_off else asked.before)
        if cut_off:
            run.go_on(cut_off)
        report = run.walk(asked.out, bar.update, asked.checkpoint_s)
    if not first:
        return ""
    return json.dumps(report.to_dict()) + "\n" if asked.json else _text(report.to_dict(), asked.out)


def _text(report: dict[str, object], out: Path) -> str:
    tasks = report.pop("tasks")
    assert isinstance(tasks, dict)
    lines = [
        "{data}: {rows:,} rows in {seconds} s, {parameters:,} parameters of tables over {ranks} ranks".format(**report)
    ]
    for task, figures in tasks.items():
        cells = (f"{name} {'-' if value is None else f'{value:.4f}'}" for name, value in figures.items())
        lines.append(f"{task:<18}" + "  ".join(cells))
    where = report["snapshot"] or "teacher.pt was not made: it does not fit into this host's memory"
    return "\n".join([*lines, f"written to {out / 'teacher.sharded'}", str(where), ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    add("--out", type=Path, default=Path("build/run"), metavar="DIR", help="default: build/run")
    add("--config", type=Path, metavar="FILE", help="TOML over the source's packaged settings")
    add("--seed", type=int, help="of weights, shuffling and the simulator (default: the settings', 0)")
    before = "a teacher.sharded to go on from; its log came before, and counters of the past begin anew with this one"
    add("--from", dest="before", type=Path, metavar="DIR", help=before)
    add(
        "--resume",
        action="store_true",
        help="go on from OUT/training.sharded, same log and settings; begin where there is none",
    )
    seconds = "how often OUT/training.sharded is written on the way, all tables each time (600)"
    add("--checkpoint-s", type=float, default=600.0, metavar="S", help=seconds)
    add("--threads", type=int, default=1, metavar="N", help="of torch in each process (1)")
    add("--wait-s", type=float, default=600.0, metavar="S", help="how long to wait for a process that died (600)")
    add("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
