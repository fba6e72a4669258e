import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exfm.data.errors import DataError
from exfm.data.examples import Examples
from exfm.data.source import open_source
from exfm.data.tabular import read_examples
from exfm.features.encoding import MISSING
from exfm.features.schema import Columns, Feature, Schema, SchemaError, Vertical
from exfm.features.values import key_of

SCHEMA = Schema(
    "shop",
    (
        Feature("user", "user", "id", buckets=50),
        Feature("city", "user", "category", vocabulary=("oslo", "rome", "7")),
        Feature("age", "user", "number", boundaries=(20.0,), default=33.0),
        Feature("tab", "context", "category", vocabulary=(0, 1)),
        Feature("brand", "ad", "id", buckets=50, column="brand_name"),
        Feature("price", "ad", "number", boundaries=(1.0,)),
    ),
    (Vertical("feed", ("click",)), Vertical("cart", ("click", "buy"))),
    Columns(user="user", ad="item", time_ms="ts", vertical="surface", bid="bid"),
)
GOOD: dict[str, list[Any]] = {
    "user": ["u1", "u2", "u1"],
    "item": [5, 6, 7],
    "ts": [1000, 2000, 3000],
    "surface": ["feed", "cart", "feed"],
    "bid": [0.5, 0.0, 2.0],
    "city": ["oslo", None, "bern"],
    "age": [20.5, None, 7.0],
    "tab": [0, None, 5],
    "brand_name": ["x", "12", None],
    "price": [1, 2, 3],
    "click": [1, 0, 0],
    "buy": [None, 1, None],
    "ignored": ["a", "b", "c"],
}


def write(columns: dict[str, Any], path: Path) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pa_parquet.write_table(table, path)
    return path


def assert_same(left: Examples, right: Examples) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        pairs = [(value, other)] if not isinstance(value, dict) else [(value[key], other[key]) for key in value]
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_cells_become_values(suffix: str, tmp_path: Path) -> None:
    examples = read_examples(write(GOOD, tmp_path / f"log.{suffix}"), SCHEMA)
    u1, u2 = key_of("u1"), key_of("u2")
    assert examples.user.tolist() == [u1, u2, u1]
    assert examples.ad.tolist() == [5, 6, 7]
    assert examples.time_ms.tolist() == [1000, 2000, 3000]
    assert examples.bid.tolist() == [0.5, 0.0, 2.0]
    assert examples.blocks["user_ids"].tolist() == [[u1, key_of("oslo")], [u2, MISSING], [u1, key_of("bern")]]
    assert examples.blocks["user_numbers"].tolist() == [[20.5], [33.0], [7.0]]
    assert examples.blocks["context_ids"].tolist() == [[0], [MISSING], [5]]
    assert examples.blocks["ad_numbers"].tolist() == [[1.0], [2.0], [3.0]]
    # In a CSV file a cell that spells an integer is one; a Parquet column of text is text throughout.
    assert examples.blocks["ad_ids"].tolist() == [
        [key_of("x")], [12 if suffix == "csv" else key_of("12")], [MISSING]
    ]  # fmt: skip
    np.testing.assert_array_equal(examples.labels["click"], np.array([1, 0, 0], np.float32))
    np.testing.assert_array_equal(examples.labels["buy"], np.array([np.nan, 1, np.nan], np.float32))


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
# Text that spells no integer: where it does, a CSV file cannot tell and a Parquet file can.
WORDS = st.text(CHARACTERS, min_size=1, max_size=4).map(
    lambda text: f"{text}_" if re.fullmatch(r"-?[0-9]+(\.0+)?", text) else text
)
TEXTS = st.none() | st.just("") | WORDS
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
WHOLE_FLOATS = st.integers(-(2**53), 2**53).map(float)
FLOATS = st.none() | st.floats(-1e30, 1e30)


@st.composite
def logs(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 6))

    def column(values: st.SearchStrategy[Any], kind: Any) -> Any:
        return pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)

    surfaces = draw(st.lists(st.sampled_from(["feed", "cart"]), min_size=rows, max_size=rows))
    return pa.table(
        {
            "user": draw(st.sampled_from([column(INTEGERS, pa.int64()), column(WHOLE_FLOATS, pa.float64())])),
            "item": column(WORDS, pa.string()),
            "ts": column(st.integers(0, 2**50), pa.int64()),
            "surface": surfaces,
            "bid": column(st.floats(0, 1e6), pa.float64()),
            "city": column(TEXTS | st.sampled_from(["oslo", "7"]), pa.string()),
            "age": column(FLOATS, pa.float64()),
            "tab": draw(
                st.sampled_from(
                    [column(st.none() | INTEGERS, pa.int64()), column(st.none() | WHOLE_FLOATS, pa.float64())]
                )
            ),
            "brand_name": column(TEXTS, pa.string()),
            "price": column(st.none() | st.floats(-(2.0**100), 2.0**100, width=32), pa.float32()),
            "click": column(st.booleans().map(int), pa.int8()),
            "buy": [draw(st.sampled_from([0, 1])) if surface == "cart" else None for surface in surfaces],
        }
    )


def as_python_spells(table: pa.Table) -> pa.Table:
    """Whole floats with their `.0`, as pandas writes them; pyarrow leaves it out."""
    for index, name in enumerate(("user", "tab")):
        column = table.column(name)
        if pa.types.is_floating(column.type):
            cells = [None if value is None else f"{value:.1f}" for value in column.to_pylist()]
            table = table.remove_column(table.column_names.index(name)).add_column(index, name, pa.array(cells))
    return table


@given(logs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_and_parquet_give_the_same(tmp_path: Path, table: pa.Table) -> None:
    one = read_examples(write(as_python_spells(table), tmp_path / "log.csv"), SCHEMA)
    other = read_examples(write(table, tmp_path / "log.parquet"), SCHEMA)
    assert_same(one, other)


def test_floats_that_are_whole_and_dictionaries_are_read(tmp_path: Path) -> None:
    columns = GOOD | {
        "item": pa.array([5.0, 6.0, 7.0]),
        "tab": pa.array([0.0, None, 5.0]),
        "user": pa.array(["u1", "u2", "u1"]).dictionary_encode(),
        "city": pa.array(["oslo", "", "bern"], pa.large_string()),
        "click": pa.array([True, False, False]),
        "ts": pa.array([1000, 2000, 3000], pa.uint16()),
    }
    expected = read_examples(write(GOOD, tmp_path / "a.parquet"), SCHEMA)
    assert_same(read_examples(write(columns, tmp_path / "b.parquet"), SCHEMA), expected)


def test_whole_floats_in_a_csv_file_are_the_integers(tmp_path: Path) -> None:
    spelled = GOOD | {
        "user": ["u1", "3.0", "3"],
        "item": ["5.0", "6.00", "9007199254740992.0"],
        "tab": ["-0.0", None, "5.0"],
        "brand_name": ["12.0", "x", "1.5"],
        "ts": ["1000.0", "2000", "3000.0"],
    }
    examples = read_examples(write(spelled, tmp_path / "log.csv"), SCHEMA)
    assert examples.user.tolist() == [key_of("u1"), 3, 3]
    assert examples.ad.tolist() == [5, 6, 2**53]
    assert examples.blocks["context_ids"].ravel().tolist() == [0, MISSING, 5]
    assert examples.blocks["ad_ids"].ravel().tolist() == [12, key_of("x"), key_of("1.5")]
    assert examples.time_ms.tolist() == [1000, 2000, 3000]


def test_the_line_is_told_where_rows_are_not_lines(tmp_path: Path) -> None:
    file = write(GOOD | {"ignored": ["two\nlines", "b", "c"], "age": ["1", "2", "old"]}, tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"row 3 \(line 5\): 'old' is not a number"):
        read_examples(file, SCHEMA)


BOTH = ("csv", "parquet")


@pytest.mark.parametrize(
    "case",
    [
        (BOTH, "ts", [1000, None, 3000], 2, "empty, but every row needs a time"),
        (("csv",), "ts", ["1000", "2000", "soon"], 3, "'soon' is not a whole number"),
        (("csv",), "ts", ["1000", "2000.5", "1"], 2, "'2000.5' is not a whole number"),
        (("csv",), "ts", ["1000.0", "2000", "9007199254740993.0"], 3, "'9007199254740993.0' is not a whole number"),
        (("csv",), "tab", ["0.0", "1.50", ""], 2, "'1.50' is not a whole number"),
        (("parquet",), "ts", ["1000", "2000", "3000"], None, "expected a whole number, the file has string"),
        (BOTH, "user", ["u1", "u2", None], 3, "empty, but every row needs a key"),
        (BOTH, "item", [5, None, 7], 2, "empty, but every row needs a key"),
        (("parquet",), "item", [5.0, 6.5, 7.0], 2, "6.5 is not a whole number"),
        (("parquet",), "item", [[1], [2], [3]], None, "expected a whole number, the file has list"),
        (("csv",), "age", ["1", "old", ""], 2, "'old' is not a number"),
        (("parquet",), "age", ["1", "2", "3"], None, "expected a number, the file has string"),
        (BOTH, "age", [1.0, 2.0, float("inf")], 3, "not finite in float32, got inf"),
        (BOTH, "age", [1.0, float("nan"), 2.0], 2, "not finite in float32, got nan"),
        (BOTH, "price", [1e39, 1.0, 1.0], 1, "not finite in float32, got 1e+39"),
        (("parquet",), "city", [1, 2, 3], None, "expected text, the file has int64"),
        (("csv",), "tab", ["0", "1", "x"], 3, "'x' is not a whole number"),
        (("parquet",), "tab", ["0", "1", "x"], None, "expected a whole number, the file has string"),
        (BOTH, "click", [1, None, 0], 2, "empty, but the row's outcome must be 0 or 1"),
        (BOTH, "buy", [None, None, None], 2, "empty, but the row's outcome must be 0 or 1"),
        (BOTH, "click", [0, 1, 2], 3, "an outcome is 0 or 1, got 2"),
        (BOTH, "click", [0.0, 0.5, 1.0], 2, "an outcome is 0 or 1, got 0.5"),
        (("csv",), "click", ["0", "1", "yes"], 3, "'yes' is not 0 or 1"),
        (BOTH, "bid", [1.0, 2.0, -0.5], 3, "a bid is not negative, got -0.5"),
        (BOTH, "bid", [1.0, None, 2.0], 2, "empty, but every row needs a value"),
        (BOTH, "surface", ["feed", "cart", "shop"], 3, "'shop' is no vertical of the schema (feed, cart)"),
        (BOTH, "surface", ["feed", None, "cart"], 2, "None is no vertical of the schema (feed, cart)"),
    ],
)
def test_a_bad_cell_is_named(case: tuple[tuple[str, ...], str, list[Any], int | None, str], tmp_path: Path) -> None:
    suffixes, column, cells, row, problem = case
    for suffix in suffixes:
        file = write(GOOD | {column: cells}, tmp_path / f"log.{suffix}")
        with pytest.raises(DataError) as caught:
            read_examples(file, SCHEMA)
        error = caught.value
        assert (error.file, error.column, error.row) == (file, column, row)
        line = f" (line {row + 1})" if row is not None and suffix == "csv" else ""
        where = f"{file}, column {column!r}" + ("" if row is None else f", row {row}{line}")
        assert str(error).startswith(f"{where}: {problem}")


@pytest.mark.parametrize("column", ["user", "item", "ts", "surface", "bid", "city", "brand_name", "price", "buy"])
@pytest.mark.parametrize("suffix", BOTH)
def test_a_missing_column_is_named(column: str, suffix: str, tmp_path: Path) -> None:
    rest = {name: cells for name, cells in GOOD.items() if name != column}
    with pytest.raises(DataError, match=f"log.{suffix}, column '{column}': the file has no such column; it has .*"):
        read_examples(write(rest, tmp_path / f"log.{suffix}"), SCHEMA)


@pytest.mark.parametrize("at", [1, 2, 50, 99, 100])
def test_the_first_bad_cell_is_found_wherever_it_is(at: int, tmp_path: Path) -> None:
    columns = {name: cells[:1] * 100 for name, cells in GOOD.items()}
    columns["buy"] = ["0"] * 100
    columns["age"] = ["1"] * (at - 1) + ["x"] * (101 - at)
    with pytest.raises(DataError) as caught:
        read_examples(write(columns, tmp_path / "log.csv"), SCHEMA)
    assert caught.value.row == at


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "log.csv: empty, expected a header"),
        ("log.csv", b"user,user\n1,2\n", "log.csv, column 'user': the file has this column twice"),
        ("log.csv", b"user,item\n1,2\n1\n", r"log.csv, row 2 \(line 3\): 1 cells where the header has 2"),
        ("log.csv", b"user,item\n1,\xff\n", "log.csv: cannot be read: .*UTF8"),
        ("log.csv", b"us\xffer\n", "log.csv: cannot be read: "),
        ("log.parquet", b"PAR1 and no more", "log.parquet: cannot be read"),
        ("log.parquet", b"", "log.parquet: cannot be read"),
        ("log.xlsx", b"", r"log.xlsx: expected a file ending in .parquet or .csv"),
    ],
)
def test_a_broken_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / name, SCHEMA)


def bring(folder: Path, schema: Schema, logs: dict[str, dict[str, Any]]) -> Path:
    import json

    (folder / "schema.json").write_text(json.dumps(schema.to_dict()))
    for name, columns in logs.items():
        write(columns, folder / name)
    return folder


def test_a_folder_with_a_schema_and_logs_is_a_source(tmp_path: Path) -> None:
    later = GOOD | {"ts": [2500, 1500, 2000], "item": [5, 8, 9], "price": [9, 9, 9]}
    source = open_source(bring(tmp_path, SCHEMA, {"log_1.parquet": GOOD, "log_2.parquet": later}))
    examples = source.examples
    assert (source.name, source.schema) == ("shop", SCHEMA)
    assert examples.time_ms.tolist() == [1000, 1500, 2000, 2000, 2500, 3000]
    # Of equal times the one that was read first stays first; an ad is as the log last saw it.
    assert examples.ad.tolist() == [5, 8, 6, 9, 5, 7]
    assert source.ads.key.tolist() == [5, 6, 7, 8, 9]
    assert source.ads.blocks["ad_numbers"].ravel().tolist() == [9.0, 2.0, 3.0, 9.0, 9.0]
    assert len(source.users) == 2
    assert source.last_day == 0


def test_without_vertical_and_bid_every_row_belongs_to_all(tmp_path: Path) -> None:
    schema = Schema("all", SCHEMA.features, SCHEMA.verticals, Columns(user="user", ad="item", time_ms="ts"))
    columns = {name: cells for name, cells in GOOD.items() if name not in ("surface", "bid")} | {"buy": [0, 1, 1]}
    examples = open_source(bring(tmp_path, schema, {"log.csv": columns})).examples
    assert examples.labels["buy"].tolist() == [0, 1, 1]
    assert examples.bid.tolist() == [1, 1, 1]


def test_an_unclear_folder_is_refused(tmp_path: Path) -> None:
    bring(tmp_path, SCHEMA, {})
    with pytest.raises(DataError, match=r"holds schema.json but no log; expected log\*.parquet or log\*.csv"):
        open_source(tmp_path)
    write(GOOD, tmp_path / "log.csv")
    write(GOOD, tmp_path / "log.parquet")
    with pytest.raises(DataError, match="holds logs in Parquet and in CSV"):
        open_source(tmp_path)
    (tmp_path / "schema.toml").write_text("")
    with pytest.raises(DataError, match=r"holds schema.toml and schema.json"):
        open_source(tmp_path)


def test_a_bad_schema_file_is_named(tmp_path: Path) -> None:
    write(GOOD, tmp_path / "log.csv")
    (tmp_path / "schema.toml").write_text('name = "x"\n[columns]\nclient = "c"\n')
    with pytest.raises(SchemaError, match=r"schema.toml: columns .*client"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", BOTH)
def test_a_log_without_rows_is_refused(suffix: str, tmp_path: Path) -> None:
    empty = pa.table(GOOD).slice(0, 0)
    with pytest.raises(DataError, match="the log holds no rows"):
        open_source(bring(tmp_path, SCHEMA, {f"log.{suffix}": empty}))
