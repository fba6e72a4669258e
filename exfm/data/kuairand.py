"""KuaiRand-Pure (Gao et al., CIKM 2022): exposures of a short-video app, each with all its outcomes.

Two layouts are read: three Parquet files (exposures, users, videos), or the CSV files as officially published.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.data import columns
from exfm.data.blocks import read_blocks
from exfm.data.chunks import hour_of
from exfm.data.errors import DataError
from exfm.data.examples import Blocks, Catalogue, Examples, concat
from exfm.data.table import Column, Table, read_table
from exfm.features.schema import Schema, Side

SCHEMA_FILE = Path(__file__).parent / "schemas" / "kuairand.toml"
UTC_OFFSET_H = 8.0
"""The app's users live in UTC+8; its days and hours are meant there."""
EXTRA_TASKS = ("is_like", "is_follow", "is_comment", "is_forward", "is_hate", "is_profile_enter")
"""Outcomes that no vertical serves, for a teacher to learn from."""
WATCHED_SHARE = "watched_share"
"""Name of the signal play_time_ms / duration_ms: the duration taken as 1 s at least, the share as 2 at most."""
LOOKED_FOR = (
    "KuaiRand-Pure as exposures.parquet, users.parquet, videos.parquet or as log_standard_*_pure.csv, "
    "user_features_pure.csv, video_features_basic_pure.csv, here or in kuairand_pure/ or data/"
)
_FOLDERS = ("", "data", "kuairand_pure", "kuairand_pure/data", "KuaiRand-Pure", "KuaiRand-Pure/data")


@dataclass(frozen=True)
class Layout:
    """Where one copy of the data lies: the logs, the users' table and the videos' table."""

    logs: tuple[Path, ...]
    users: Path
    videos: Path


def find_layout(data_dir: Path) -> Layout | None:
    """The data in the folder or in one of its usual subfolders, Parquet before CSV; None if there is none."""
    for folder in (data_dir / name for name in _FOLDERS):
        if (folder / "exposures.parquet").is_file():
            return Layout((folder / "exposures.parquet",), folder / "users.parquet", folder / "videos.parquet")
        if logs := sorted(folder.glob("log_standard_*_pure.csv")):
            return Layout(tuple(logs), folder / "user_features_pure.csv", folder / "video_features_basic_pure.csv")
    return None


def read_kuairand(layout: Layout) -> tuple[Schema, Examples, Catalogue, Catalogue]:
    """Read everything: the schema, all exposures in time order without exact duplicates, the ads, the users.

    Raises:
        DataError: a file or column is missing, a cell is bad, or a log names a user or video that its table lacks.
    """
    schema = Schema.load(SCHEMA_FILE)
    users = _read_catalogue(schema, "user", read_table(layout.users), schema.columns.user)
    ads = _read_catalogue(schema, "ad", _with_aspect_ratio(read_table(layout.videos)), schema.columns.ad)
    whole = concat([_read_log(file, schema, users, ads) for file in layout.logs])
    return schema, whole.in_time_order(), ads, users


def _read_catalogue(schema: Schema, side: Side, table: Table, key: str) -> Catalogue:
    if not len(table):
        raise DataError("the table holds no rows", table.file)
    return Catalogue.of(columns.keys(table.column(key)), read_blocks(schema, (side,), table))


def _read_log(file: Path, schema: Schema, users: Catalogue, ads: Catalogue) -> Examples:
    table = read_table(file)
    time_ms = columns.times(table.column(schema.columns.time_ms))
    user_column, ad_column = table.column(schema.columns.user), table.column(schema.columns.ad)
    user, ad = columns.keys(user_column), columns.keys(ad_column)
    table = table.with_column("hour", hour_of(time_ms, UTC_OFFSET_H))
    everywhere = np.ones(len(table), bool)
    examples = Examples(
        time_ms=time_ms,
        user=user,
        ad=ad,
        blocks={
            **_joined(users, user, user_column),
            **read_blocks(schema, ("context",), table),
            **_joined(ads, ad, ad_column),
        },
        labels={task: columns.labels(table.column(task), everywhere) for task in (*schema.tasks, *EXTRA_TASKS)},
        bid=np.ones(len(table), np.float32),
        signals={WATCHED_SHARE: _watched_share(table)},
    )
    keep = _first_of_equal(table, (user, ad, time_ms))
    return examples if keep.all() else examples.take(keep)


def _joined(catalogue: Catalogue, wanted: NDArray[np.int64], column: Column) -> Blocks:
    rows = np.minimum(np.searchsorted(catalogue.key, wanted), len(catalogue) - 1)
    strange = catalogue.key[rows] != wanted
    if strange.any():
        index = int(np.argmax(strange))
        raise column.error(f"{wanted[index]} does not stand in the table that describes it", index)
    return {name: block[rows] for name, block in catalogue.blocks.items()}


def _watched_share(table: Table) -> NDArray[np.float32]:
    played = columns.numbers(table.column("play_time_ms"), 0.0)
    duration = columns.numbers(table.column("duration_ms"), 0.0)
    return np.clip(played / np.maximum(duration, 1000), 0, 2)


def _with_aspect_ratio(videos: Table) -> Table:
    width = columns.numbers(videos.column("server_width"), 0.0)
    height = columns.numbers(videos.column("server_height"), 0.0)
    return videos.with_column("aspect_ratio", width / np.maximum(height, 1))


def _first_of_equal(table: Table, by: tuple[NDArray[np.int64], ...]) -> NDArray[np.bool_]:
    """Which rows stay when of rows equal in every column only the first does; equal rows are equal in `by` too."""
    keep = np.ones(len(table), bool)
    order = np.lexsort(by)
    again = np.logical_and.reduce([part[order][1:] == part[order][:-1] for part in by])
    suspects = np.unique(np.concatenate([order[:-1][again], order[1:][again]]))
    seen: set[tuple[object, ...]] = set()
    for row, cells in zip(suspects, zip(*table.data.take(suspects).to_pydict().values(), strict=True), strict=False):
        keep[row] = cells not in seen
        seen.add(cells)
    return keep
