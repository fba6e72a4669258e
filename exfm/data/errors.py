"""The one way in which data can be bad."""

from pathlib import Path


class DataError(ValueError):
    """A log or a directory cannot be read; the message names the place.

    Attributes:
        file: the file or directory.
        column: the column, or "" if the trouble is not one column's.
        row: 1-based data row (a CSV header is not counted), or None if the trouble is not one row's.
    """

    def __init__(self, problem: str, file: Path, column: str = "", row: int | None = None) -> None:
        self.file = file
        self.column = column
        self.row = row
        place = [str(file), f"column {column!r}" if column else "", f"row {row}" if row is not None else ""]
        super().__init__(f"{', '.join(part for part in place if part)}: {problem}")
