"""What the command says to people and to machines."""

import json
import sys
from collections.abc import Mapping


def tell(text: str, plain: Mapping[str, object], as_json: bool) -> None:
    """One line on stdout: `text`, or `plain` as JSON."""
    sys.stdout.write((json.dumps(plain) if as_json else text) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(text + "\n")
