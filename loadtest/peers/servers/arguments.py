"""What every server script is told: which model, which port, how many workers."""

import argparse
from pathlib import Path

HOST = "127.0.0.1"


def arguments() -> argparse.Namespace:
    """`--model FOLDER --port PORT --workers N`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="a published version's folder")
    parser.add_argument("--port", type=int, required=True, help="on loopback")
    parser.add_argument("--workers", type=int, default=2, help="processes that score")
    return parser.parse_args()
