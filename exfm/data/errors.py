"""The one way in which data can be bad."""

from pathlib import Path


class DataError(ValueError):
    """A log or a directory cannot be read; the message names the place.

    Attributes:
        file: the file or directory.
        column: the column, or "" if the trouble is not one column's.
        row: 1-based data row (a CSV header is not counted), or None if the trouble is not one row's.
        line: 1-based line where that row starts, in a CSV file.
    """

    def __init__(
        self, problem: str, file: Path, column: str = "", row: int | None = None, line: int | None = None
    ) -> None:
        self.file = file
        self.column = column
        self.row = row
        self.line = line
        where = "" if row is None else f"row {row}" + ("" if line is None else f" (line {line})")
        place = [str(file), f"column {column!r}" if column else "", where]
        super().__init__(f"{', '.join(part for part in place if part)}: {problem}")
