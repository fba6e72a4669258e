"""How far a consumer has read an example stream: a small file that changes whole or not at all."""

import os
import re
from pathlib import Path

from exfm.data.errors import DataError

CURSORS = "cursors"
CONSUMER = re.compile(r"[A-Za-z0-9_-]+")
"""What the name of a consumer looks like."""


class Cursor:
    """A consumer's place in a stream; retention keeps what some cursor has not passed.

    A trainer keeps the place in its checkpoint and moves the cursor after that, so that no row is learned twice.

    Attributes:
        path: of the file.
    """

    def __init__(self, folder: Path, consumer: str) -> None:
        """`consumer` is a name of letters, digits, `_` and `-`; `ValueError` otherwise."""
        if not CONSUMER.fullmatch(consumer):
            raise ValueError(f"consumer {consumer!r}: a name is made of letters, digits, '_' and '-'")
        self.path = folder / CURSORS / consumer

    @property
    def row(self) -> int:
        """Number of the next row to read; 0 at first. `DataError` if the file is damaged."""
        return _read(self.path) if self.path.exists() else 0

    @property
    def there(self) -> bool:
        """Whether it was ever moved."""
        return self.path.exists()

    def take_over(self, other: "Cursor") -> None:
        """Go on where another one is, which is gone then."""
        other.path.replace(self.path)

    def move(self, row: int) -> None:
        """All rows below are done with; durable on return."""
        self.path.parent.mkdir(exist_ok=True)
        aside = self.path.with_suffix(".partial")
        with aside.open("w", encoding="ascii") as handle:
            handle.write(f"{row}\n")
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(self.path)


def lowest_cursor(folder: Path, otherwise: int) -> int:
    """The place of the slowest consumer, or `otherwise` if there is none."""
    paths = [path for path in (folder / CURSORS).glob("*") if path.suffix != ".partial"]
    return min((_read(path) for path in paths), default=otherwise)


def _read(path: Path) -> int:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not text.isdecimal():
        raise DataError(f"{text[:32]!r} is no row number", path)
    return int(text)
