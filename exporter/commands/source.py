"""Arguments of the commands that publish: what model it is, how good it must be, who vouches for it."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from exporter.commands.arguments import add_trust, share
from exporter.compare import MAX_NE_LOSS
from exporter.errors import ExportRefusedError
from exporter.own_model import OwnFiles
from exporter.progress import say_on_stderr

NEEDED, FURTHER = ("model", "weights", "schema", "golden"), ("vertical", "quality", "prior")
"""Arguments that say what a user's own model is."""


def add_source(made: argparse.ArgumentParser) -> None:
    """The checkpoint, or the files of a user's own model."""
    made.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="a student's checkpoint, from exfm-train"
    )
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


def add_quality(made: argparse.ArgumentParser) -> None:
    """The bound on what it may be worse by."""
    quality = made.add_argument_group("how good it must be")
    quality.add_argument(
        "--max-ne-loss",
        type=share,
        default=MAX_NE_LOSS,
        metavar="SHARE",
        help="how much larger than the served version's the NE of a task may be (0.5%%)",
    )
    quality.add_argument("--allow-worse", action="store_true", help="publish all the same; the lineage says so")


def add_keys(made: argparse.ArgumentParser) -> None:
    """The key to sign with, and those that are trusted."""
    keys = made.add_argument_group("who vouches for it")
    keys.add_argument(
        "--signing-key",
        type=Path,
        metavar="FILE",
        help="ed25519 key, PEM; else the file named by EXFM_SIGNING_KEY, else REPOSITORY/.keys/signing.pem, else none",
    )
    add_trust(made, changing=True)


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


def reporter() -> Callable[[str], None]:
    """Says each step on stderr, with the seconds since now."""
    started_s = time.monotonic()

    def report(step: str) -> None:
        say_on_stderr(f"[{time.monotonic() - started_s:5.1f} s] {step}")

    return report
