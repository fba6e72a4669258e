"""Small copies of KuaiRand-Pure in both layouts, and logs to bring along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from exfm.data.errors import DataError
from exfm.data.kuairand import EXTRA_TASKS, SCHEMA_FILE
from exfm.data.source import resolve_data_dir
from exfm.features.schema import Feature, Schema

Tables = dict[str, pa.Table]
Changes = dict[str, Callable[[pa.Table], pa.Table]]
WriteTables = Callable[[Path, Changes], None]
WriteTable = Callable[[pa.Table, Path], None]
_USERS, _VIDEOS, _ROWS = 40, 30, 300
_START_MS = 1_650_816_000_000
"""2022-04-24 16:00 UTC, which is 2022-04-25 00:00 in UTC+8."""
_SEPARATE = ("user_id", "video_id", "video_duration", "server_width", "server_height", "aspect_ratio")


@pytest.fixture(scope="session")
def write_table() -> WriteTable:
    """`write_table(table, path)`: as Parquet or CSV, by the path's suffix."""

    def write(table: pa.Table, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pa_parquet.write_table(table, path)
        else:
            pa_csv.write_csv(table, path)

    return write


@pytest.fixture(scope="session")
def kuairand_tables() -> Tables:
    """Random exposures, users and videos with the columns of the Parquet layout, some cells missing."""
    rng = np.random.default_rng(7)
    schema = Schema.load(SCHEMA_FILE)
    users = {"user_id": np.arange(_USERS) * 3, **_side(rng, schema.side("user"), _USERS)}
    size = {name: rng.integers(200, 2000, _VIDEOS).astype(float) for name in ("server_width", "server_height")}
    duration = [None if row % 9 == 4 else float(row * 9000 + 500) for row in range(_VIDEOS)]
    videos = {"video_id": np.arange(_VIDEOS) + 100, **_side(rng, schema.side("ad"), _VIDEOS), **size}
    return {
        "users": pa.table(users),
        "videos": pa.table({**videos, "video_duration": duration}),
        "exposures": pa.table(_exposures(rng, duration)),
    }


def _side(rng: np.random.Generator, features: tuple[Feature, ...], rows: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for feature in features:
        if feature.source in _SEPARATE:
            continue
        if feature.kind == "category":
            values = [feature.vocabulary[code] for code in rng.integers(0, len(feature.vocabulary), rows)]
            made[feature.source] = [None if rng.random() < 0.1 else value for value in values]
        else:
            made[feature.source] = rng.integers(0, 5000, rows)
    return made


def _exposures(rng: np.random.Generator, duration: list[float | None]) -> dict[str, Any]:
    video = rng.integers(0, _VIDEOS, _ROWS)
    # A day and a half before the last one, so that days and hours in UTC and in UTC+8 differ.
    made = {
        "user_id": rng.integers(0, _USERS, _ROWS) * 3,
        "video_id": video + 100,
        "time_ms": np.sort(_START_MS + rng.integers(0, 60 * 3_600_000, _ROWS)),
        "tab": rng.integers(0, 15, _ROWS),
        "play_time_ms": rng.integers(0, 90_000, _ROWS),
        "duration_ms": np.array([int(duration[index] or 0) for index in video]),
    }
    for task in ("is_click", "long_view", *EXTRA_TASKS):
        made[task] = rng.integers(0, 2, _ROWS)
    return made


@pytest.fixture(scope="session")
def write_kuairand(kuairand_tables: Tables, write_table: WriteTable) -> WriteTables:
    """`write_kuairand(folder, {"users": change})`: the Parquet layout, some tables changed first."""

    def write(folder: Path, changes: Changes) -> None:
        for name, table in kuairand_tables.items():
            write_table(changes[name](table) if name in changes else table, folder / f"{name}.parquet")

    return write


@pytest.fixture(scope="session")
def kuairand_parquet(write_kuairand: WriteTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the Parquet layout."""
    folder = tmp_path_factory.mktemp("kuairand_parquet")
    write_kuairand(folder, {})
    return folder


@pytest.fixture(scope="session")
def kuairand_csv(kuairand_tables: Tables, write_table: WriteTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the official layout: two logs, the second one holding a row twice."""
    folder = tmp_path_factory.mktemp("kuairand_csv") / "data"
    log = kuairand_tables["exposures"].append_column("is_rand", pa.array(np.zeros(_ROWS, np.int64)))
    later = log.slice(_ROWS // 2)
    write_table(log.slice(0, _ROWS // 2), folder / "log_standard_4_08_to_4_21_pure.csv")
    write_table(pa.concat_tables([later.slice(0, 5), later.slice(4)]), folder / "log_standard_4_22_to_5_08_pure.csv")
    write_table(log.slice(0, 20), folder / "log_random_4_22_to_5_08_pure.csv")
    write_table(_as_pandas_writes(kuairand_tables["users"]), folder / "user_features_pure.csv")
    write_table(_as_pandas_writes(kuairand_tables["videos"]), folder / "video_features_basic_pure.csv")
    return folder


def _as_pandas_writes(table: pa.Table) -> pa.Table:
    """Integers of a column that has gaps as `9.0`: in pandas such a column is one of floats."""
    for index, name in enumerate(table.column_names):
        column = table.column(name)
        if pa.types.is_integer(column.type) and column.null_count:
            cells = [None if value is None else f"{value}.0" for value in column.to_pylist()]
            table = table.set_column(index, name, pa.array(cells, pa.string()))
    return table


@pytest.fixture(scope="session")
def real_kuairand() -> Path:
    """The real data, where it is; else the test is skipped."""
    import os

    beside = Path(__file__).parents[2] / "shared" / "data"
    try:
        folder = resolve_data_dir(None, os.environ) or beside
    except DataError:
        folder = beside
    if not (folder / "kuairand_pure" / "exposures.parquet").is_file():
        pytest.skip("no KuaiRand-Pure in EXFM_DATA_DIR or beside the repository")
    return folder
