"""Arguments that several commands share."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def make_parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A command's parser, with the arguments that every command has."""
    parser = argparse.ArgumentParser(
        prog=f"exfm-export {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def add_trust(parser: argparse.ArgumentParser, *, changing: bool = False) -> None:
    """The argument that says whose signatures count; for a command that changes what is served: also count."""
    instead = "besides those of REPOSITORY/trusted_keys, if any" if changing else "instead of REPOSITORY/trusted_keys"
    parser.add_argument(
        "--trusted-keys",
        type=Path,
        metavar="DIR",
        help=f"public keys (*.pem) that must have signed, {instead}; best out of the publisher's reach",
    )


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def share(text: str) -> float:
    """A share of one, as 0.005 or 0.5%."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a share such as 0.5%, got {text}")
    return value


def show(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Print one or the other, as asked."""
    sys.stdout.write((json.dumps(result) if options.json else text.rstrip("\n")) + "\n")
