"""Turning a file's column into raw feature values, keys, labels and times, or telling which cell is bad."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from exfm.data.table import Column
from exfm.features.encoding import MISSING
from exfm.features.values import key_of

_SPELLED_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_SPELLED_FLOAT = r"^(-?(0|[1-9][0-9]{0,15}))\.0+$"
_EXACT = 2**53
"""Up to here a float tells every whole number from its neighbours."""


def keys(column: Column) -> NDArray[np.int64]:
    """Keys of users or ads: like `ids`, but none may be missing.

    Raises:
        DataError: a cell is empty.
    """
    values = ids(column)
    _refuse(column, values == MISSING, "empty, but every row needs a key")
    return values


def ids(column: Column) -> NDArray[np.int64]:
    """Values of an `id` feature, int64 [N]: integers as they are, text through `key_of`, empty cells `MISSING`.

    A Parquet column's type decides which; in a CSV file a cell that spells an integer is that integer, also as a float
    (`9.0`, as pandas writes integers where some are missing) up to 2^53.

    Raises:
        DataError: the column is neither whole numbers nor text.
    """
    if not _is_text(column.values):
        return integers(column)
    column = _without_fractions(column)
    if not column.typed and _all(pc.match_substring_regex(column.values, _SPELLED_INTEGER)):
        return _filled(column.values.cast(pa.int64()), MISSING)
    return _by_value(column, _text_key if column.typed else _cell_key)


def texts(column: Column) -> NDArray[np.int64]:
    """Values of a `category` with a vocabulary of text, int64 [N]: each through `key_of`, empty cells `MISSING`.

    Raises:
        DataError: the column is not text.
    """
    if not _is_text(column.values):
        raise column.error(f"expected text, the file has {column.values.type}")
    return _by_value(column, _text_key)


def integers(column: Column) -> NDArray[np.int64]:
    """Whole numbers, int64 [N], empty cells `MISSING`; in a CSV file `9.0` is 9, up to 2^53.

    Raises:
        DataError: the column or a cell is not a whole number in int64.
    """
    values = _cast(_without_fractions(column), pa.int64(), "a whole number")
    return _filled(values, MISSING)


def times(column: Column) -> NDArray[np.int64]:
    """Milliseconds since the epoch, int64 [N].

    Raises:
        DataError: a cell is empty or no whole number.
    """
    values = integers(column)
    _refuse(column, values == MISSING, "empty, but every row needs a time")
    return values


def numbers(column: Column, default: float | None) -> NDArray[np.float32]:
    """Finite numbers, float32 [N]; an empty cell is `default`, or an error if there is none.

    Raises:
        DataError: the column or a cell is not a number, is not finite in float32, or is empty without a default.
    """
    values = _cast(column, pa.float64(), "a number")
    if default is None:
        _refuse(column, _mask(pc.is_null(values)), "empty, but every row needs a value")
    exact: NDArray[np.float64] = _filled(values, 0.0 if default is None else default)
    with np.errstate(over="ignore"):
        made = exact.astype(np.float32)
    _refuse(column, ~np.isfinite(made), "not finite in float32", exact)
    return made


def labels(column: Column, belongs: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Outcomes, float32 [N]: 0 or 1 where the row belongs to a vertical with this task, NaN elsewhere.

    Raises:
        DataError: a cell that belongs is empty or neither 0 nor 1.
    """
    values = _cast(column, pa.float64(), "0 or 1")
    _refuse(column, _mask(pc.is_null(values)) & belongs, "empty, but the row's outcome must be 0 or 1")
    made: NDArray[np.float64] = _filled(values, np.nan)
    _refuse(column, belongs & (made != 0) & (made != 1), "an outcome is 0 or 1", made)
    return np.where(belongs, made, np.nan).astype(np.float32)


def bids(column: Column) -> NDArray[np.float32]:
    """Bids, float32 [N], finite and not negative.

    Raises:
        DataError: a cell is anything else.
    """
    values = numbers(column, None)
    _refuse(column, values < 0, "a bid is not negative", values)
    return values


def _text_key(text: str) -> int:
    return key_of(text) if text else int(MISSING)


def _cell_key(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        return _text_key(text)
    return number if str(number) == text and MISSING < number < 2**63 else key_of(text)


def _without_fractions(column: Column) -> Column:
    """A CSV column with its whole floats spelled as integers; a column that has none, or has a type, as it is."""
    if column.typed or not _is_text(column.values):
        return column
    spelled = pc.match_substring_regex(column.values, _SPELLED_FLOAT)
    if not bool(pc.any(spelled, min_count=0).as_py()):
        return column
    cut = pc.replace_substring_regex(column.values, _SPELLED_FLOAT, r"\1")
    whole = pc.if_else(spelled, cut, pa.scalar(None, cut.type)).cast(pa.int64())
    exact = pc.less_equal(pc.abs(whole), _EXACT).fill_null(False)
    return replace(column, values=pc.if_else(exact, whole.cast(column.values.type), column.values))


def _by_value(column: Column, key: Callable[[str], int]) -> NDArray[np.int64]:
    coded = column.values.dictionary_encode()
    table = np.array([*(key(text) for text in coded.dictionary.to_pylist()), MISSING], np.int64)
    codes: NDArray[np.int64] = _filled(coded.indices.cast(pa.int64()), len(table) - 1)
    return table[codes]


def _cast(column: Column, target: Any, what: str) -> Any:
    values = column.values
    if not (_is_numeric(values.type) or (_is_text(values) and not column.typed)):
        raise column.error(f"expected {what}, the file has {values.type}")
    try:
        return values.cast(target, safe=target != pa.float64())  # a large integer may be rounded to a float
    except pa.ArrowInvalid as error:
        index = _first_failure(values, target)
        raise column.error(f"{values[index].as_py()!r} is not {what}", index) from error


def _first_failure(values: Any, target: Any) -> int:
    """Position of the first cell that cannot be cast; some cell cannot."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values[low:middle].cast(target)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _refuse(column: Column, bad: NDArray[np.bool_], problem: str, shown: NDArray[Any] | None = None) -> None:
    if bad.any():
        index = int(np.argmax(bad))
        raise column.error(problem if shown is None else f"{problem}, got {shown[index]:g}", index)


def _is_numeric(kind: Any) -> bool:
    # A column without any value has the null type, and stands for whatever is expected.
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return any(test(kind) for test in tests)


def _is_text(values: Any) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def _all(mask: Any) -> bool:
    return bool(pc.all(mask, min_count=0).as_py())


def _mask(values: Any) -> NDArray[np.bool_]:
    made: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return made


def _filled(values: Any, filler: Any) -> NDArray[Any]:
    made: NDArray[Any] = values.fill_null(filler).to_numpy(zero_copy_only=False)
    return made
