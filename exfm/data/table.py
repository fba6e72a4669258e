"""Reading one Parquet or CSV file as named columns that know where they stand."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from exfm.data.errors import DataError

SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Column:
    """One column of one file.

    Attributes:
        file: where it was read.
        name: its name there.
        values: a pyarrow array; in a CSV file always text, since nothing there says what it is.
        typed: whether the file itself gives the column a type (Parquet) or not (CSV).
    """

    file: Path
    name: str
    values: Any
    typed: bool

    def error(self, problem: str, index: int | None = None) -> DataError:
        """What is wrong with this column, at a 0-based position if it is one cell's."""
        if index is None:
            return DataError(problem, self.file, self.name)
        line = None if self.typed else _line_of(self.file, index + 1)
        return DataError(problem, self.file, self.name, index + 1, line)


@dataclass(frozen=True)
class Table:
    """One file's columns."""

    file: Path
    data: Any
    typed: bool

    def __len__(self) -> int:
        rows: int = self.data.num_rows
        return rows

    def __contains__(self, name: str) -> bool:
        return name in self.data.column_names

    def column(self, name: str) -> Column:
        """The column of that name; `DataError` if the file has none."""
        if name not in self:
            raise DataError(f"the file has no such column; it has {', '.join(self.data.column_names)}", self.file, name)
        values = self.data.column(name).combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return Column(self.file, name, values, self.typed)

    def with_column(self, name: str, values: NDArray[Any]) -> "Table":
        """The same table with one more column, computed from others."""
        return replace(self, data=self.data.append_column(name, pa.array(values)))


def read_table(file: Path, columns: list[str] | None = None) -> Table:
    """Read a `.parquet` or `.csv` file, or only the named columns of it (those it has).

    Raises:
        DataError: the file cannot be read as what its suffix says.
    """
    if file.suffix not in SUFFIXES:
        raise DataError(f"expected a file ending in {' or '.join(SUFFIXES)}", file)
    try:
        return _read_parquet(file, columns) if file.suffix == ".parquet" else _read_csv(file, columns)
    except (pa.ArrowException, csv.Error, OSError) as error:
        raise DataError(f"cannot be read: {' '.join(str(error).split())}", file) from error


def _read_parquet(file: Path, columns: list[str] | None) -> Table:
    with pa_parquet.ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        _refuse_twice(file, names)
        wanted = names if columns is None else [name for name in names if name in columns]
        return Table(file, opened.read(columns=wanted), typed=True)


def _read_csv(file: Path, columns: list[str] | None) -> Table:
    broken: list[Any] = []

    def remember(row: Any) -> str:
        broken.append(row)
        return "error"

    names = _header(file)
    _refuse_twice(file, names)
    wanted = names if columns is None else [name for name in names if name in columns]
    types = {name: pa.string() for name in wanted}
    try:
        data = pa_csv.read_csv(
            file,
            # One thread, since only then pyarrow tells the number of a broken row.
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=remember),
            convert_options=pa_csv.ConvertOptions(
                column_types=types, include_columns=wanted, strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        if not broken:
            raise
        row = broken[0]
        problem = f"{row.actual_columns} cells where the header has {row.expected_columns}"
        # pyarrow counts from 1 with the header.
        raise DataError(problem, file, row=row.number - 1, line=_line_of(file, row.number - 1)) from error
    return Table(file, data, typed=False)


def _line_of(file: Path, row: int) -> int | None:
    """The line where a CSV file's data row starts; not simply the next one, for cells may hold line breaks."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        reader = csv.reader(opened)
        start, seen = 1, -1
        try:
            for cells in reader:
                seen += bool(cells)  # a blank line is no row
                if cells and seen == row:
                    return start
                start = reader.line_num + 1
        except csv.Error:  # it is read for the message only, which does without the line
            return None
    return None


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        names = next(csv.reader(opened), None)
    if not names:
        raise DataError("empty, expected a header with the columns' names", file)
    if any("\ufffd" in name for name in names):
        raise DataError("cannot be read: the header is not UTF-8", file)
    return names


def _refuse_twice(file: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError("the file has this column twice", file, name)
