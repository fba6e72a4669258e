"""Bring your own data: a schema file and a log in Parquet or CSV are enough."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.data import columns
from exfm.data.blocks import read_blocks
from exfm.data.errors import DataError
from exfm.data.examples import BLOCK_NAMES, Catalogue, Examples, concat
from exfm.data.table import Table, read_table
from exfm.features.schema import SIDES, Schema
from exfm.features.values import key_of

SCHEMA_NAMES = ("schema.toml", "schema.json")
LOOKED_FOR = "schema.toml or schema.json beside one or more log*.parquet or log*.csv"


@dataclass(frozen=True)
class Log:
    """A schema file and the log files that follow it."""

    schema: Path
    files: tuple[Path, ...]


def find_log(data_dir: Path) -> Log | None:
    """The schema and logs of a folder; None if it holds no schema.

    Raises:
        DataError: two schemas, no log, or logs in both formats, so that it is unclear what is meant.
    """
    schemas = [data_dir / name for name in SCHEMA_NAMES if (data_dir / name).is_file()]
    if not schemas:
        return None
    if len(schemas) > 1:
        raise DataError("holds schema.toml and schema.json, expected one of them", data_dir)
    files = sorted(file for pattern in ("log*.parquet", "log*.csv") for file in data_dir.glob(pattern))
    if not files:
        raise DataError(f"holds {schemas[0].name} but no log; expected log*.parquet or log*.csv", data_dir)
    if len({file.suffix for file in files}) > 1:
        raise DataError("holds logs in Parquet and in CSV, expected one of the formats", data_dir)
    return Log(schemas[0], tuple(files))


def read_log(log: Log) -> tuple[Schema, Examples, Catalogue, Catalogue]:
    """Read a log: its schema, all rows in time order, and the ads and users as the log last saw them.

    Raises:
        DataError: a file is bad; the message names the file, the column and the row.
        SchemaError: the schema contradicts itself.
    """
    schema = Schema.load(log.schema)
    ordered = concat([read_examples(file, schema) for file in log.files]).in_time_order()
    ads = Catalogue.of(ordered.ad, {name: ordered.blocks[name] for name in BLOCK_NAMES if name.startswith("ad_")})
    users = Catalogue.of(ordered.user, {name: ordered.blocks[name] for name in BLOCK_NAMES if name.startswith("user_")})
    return schema, ordered, ads, users


def read_examples(file: Path, schema: Schema) -> Examples:
    """One log file's rows, in the file's order.

    Raises:
        DataError: the file is bad; the message names the column and the row.
    """
    names = schema.columns
    wanted = {names.user, names.ad, names.time_ms, names.vertical, names.bid, *schema.tasks}
    table = read_table(file, [*wanted, *(feature.source for feature in schema.features)])
    return Examples(
        time_ms=columns.times(table.column(names.time_ms)),
        user=columns.keys(table.column(names.user)),
        ad=columns.keys(table.column(names.ad)),
        blocks=read_blocks(schema, SIDES, table),
        labels=_read_labels(table, schema),
        bid=columns.bids(table.column(names.bid)) if names.bid else np.ones(len(table), np.float32),
    )


def _read_labels(table: Table, schema: Schema) -> dict[str, NDArray[np.float32]]:
    served = _read_verticals(table, schema)
    made = {}
    for task in schema.tasks:
        having = [vertical.name for vertical in schema.verticals if task in vertical.tasks]
        belongs = np.logical_or.reduce([served[name] for name in having])
        made[task] = columns.labels(table.column(task), belongs)
    return made


def _read_verticals(table: Table, schema: Schema) -> dict[str, NDArray[np.bool_]]:
    """Which rows each vertical served, bool [N] per name."""
    if not schema.columns.vertical:
        return {vertical.name: np.ones(len(table), bool) for vertical in schema.verticals}
    column = table.column(schema.columns.vertical)
    value = columns.texts(column)
    served = {vertical.name: value == key_of(vertical.name) for vertical in schema.verticals}
    strange = ~np.logical_or.reduce(list(served.values()))
    if strange.any():
        index = int(np.argmax(strange))
        known = ", ".join(served)
        raise column.error(f"{column.values[index].as_py()!r} is no vertical of the schema ({known})", index)
    return served
