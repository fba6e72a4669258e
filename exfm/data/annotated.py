"""Reading an example stream: examples with the teacher's annotations, in the order in which they came in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from exfm.data.commits import Commit, read_commits
from exfm.data.errors import DataError
from exfm.data.examples import BLOCK_NAMES, Catalogue, Examples, concat
from exfm.data.histories import joined
from exfm.features.embeddings import CODECS, Codec
from exfm.features.history import History
from exfm.features.schema import SIDES, Schema, SchemaError
from exfm.features.signature import blocks_of

STREAM = "stream.json"
LOOKED_FOR = "an example stream (stream.json with commits.jsonl)"
FORMAT = 1
FEATURE, LABEL, DELAY, ANNOTATION = "f.", "y.", "delay.", "a."
"""Prefixes of column names, before a feature's or task's own."""
FIXED = (
    "row",
    "key",
    "time_ms",
    "user",
    "ad",
    "bid",
    "vertical",
    "tier",
    "version",
    "snapshot",
    "space",
    "z",
    "history",
)


@dataclass(frozen=True)
class StreamForm:
    """What holds for every row of a stream.

    Attributes:
        schema: the whole schema; features are its columns.
        dimension: of an embedding; 0: the teacher gives none.
        codec: of the embeddings.
    """

    schema: Schema
    dimension: int
    codec: Codec

    @property
    def none(self) -> History:
        """No events of its kind."""
        return History.empty(self.dimension, self.codec)

    def to_json(self) -> str:
        """The content of `stream.json`."""
        plain = {"format": FORMAT, "dimension": self.dimension, "codec": self.codec, "schema": self.schema.to_dict()}
        return json.dumps(plain, indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> "StreamForm":
        """Read `stream.json`; `DataError` if it is none."""
        path = folder / STREAM
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format"] != FORMAT or raw["codec"] not in CODECS:
                raise DataError(f"format {raw['format']!r} with codec {raw['codec']!r} is not known here", path)
            return cls(Schema.from_dict(raw["schema"]), int(raw["dimension"]), raw["codec"])
        except (OSError, ValueError, KeyError, TypeError, SchemaError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"cannot be read as the head of an example stream: {error}", path) from error


@dataclass(frozen=True)
class Annotated:
    """Rows of a stream.

    Attributes:
        first_row: number of the first one in the stream.
        commit: number of theirs.
        examples: features, labels and annotations.
        key: the impressions' keys, 16 bytes each, object [N].
        snapshot: who annotated, object [N]; empty where nobody did.
        events: what the rows put into their users' histories; row i is event i.
        seen: the packed histories that the served models saw, object [N].
    """

    first_row: int
    commit: int
    examples: Examples
    key: NDArray[Any]
    snapshot: NDArray[Any]
    events: History
    seen: NDArray[Any]

    def __len__(self) -> int:
        return len(self.examples)


class StreamReader:
    """A stream's rows, each once, from any row on; what is committed while it reads is seen by the next call."""

    def __init__(self, folder: Path) -> None:
        """Read the head; `DataError` if there is none."""
        self.folder = folder
        self.form = StreamForm.load(folder)

    def commits(self) -> list[Commit]:
        """All commits so far."""
        return read_commits(self.folder)[0]

    @cached_property
    def _names(self) -> list[str]:
        schema = self.form.schema
        features = [f"{FEATURE}{feature.name}" for feature in schema.features]
        return [*FIXED, *features, *(f"{kind}{task}" for kind in (LABEL, DELAY, ANNOTATION) for task in schema.tasks)]

    def read(self, after_row: int = 0) -> Iterator[Annotated]:
        """Rows from number `after_row` on, commit by commit.

        Raises:
            DataError: a file is missing or damaged, or retention has dropped rows that were asked for.
        """
        for commit in self.commits():
            if commit.end_row <= after_row or not commit.rows:
                continue
            if not commit.files:
                if after_row > 0:
                    raise DataError(f"rows from {after_row} on were dropped by retention", self.folder)
                continue
            yield self._rows(commit, self._table(commit).slice(max(0, after_row - commit.first_row)))

    def _table(self, commit: Commit) -> pa.Table:
        tables = []
        for each in commit.files:
            path = self.folder / each.path
            try:
                tables.append(pa_parquet.read_table(path, columns=self._names, partitioning=None))
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"cannot be read: {error}", path) from error
            if tables[-1].num_rows != each.rows:
                raise DataError(f"{tables[-1].num_rows} rows where the commit has {each.rows}", path)
        return pa.concat_tables(tables).sort_by("row")

    def _rows(self, commit: Commit, table: pa.Table) -> Annotated:
        def column(name: str) -> NDArray[Any]:
            made: NDArray[Any] = table.column(name).to_numpy(zero_copy_only=False)
            return made

        tasks, form = self.form.schema.tasks, self.form
        examples = Examples(
            time_ms=column("time_ms"),
            user=column("user"),
            ad=column("ad"),
            blocks={block.name: _block(block, column) for side in SIDES for block in blocks_of(form.schema, side)},
            labels={task: column(f"{LABEL}{task}") for task in tasks},
            bid=column("bid").astype(np.float32),
            delay_s={task: column(f"{DELAY}{task}") for task in tasks},
            annotations={task: column(f"{ANNOTATION}{task}") for task in tasks},
        )
        key = column("key")
        codes = np.frombuffer(b"".join(column("z")), np.uint8).reshape(len(table), -1)
        event = np.ascontiguousarray(np.frombuffer(b"".join(key), "<u8").reshape(len(table), -1)[:, 0])
        events = History(examples.time_ms, event, column("space").astype(np.uint32), codes, form.dimension, form.codec)
        first_row = int(column("row")[0])
        return Annotated(first_row, commit.number, examples, key, column("snapshot"), events, column("history"))


def _block(block: Any, column: Any) -> NDArray[Any]:
    made = np.empty((len(column("row")), block.width), block.dtype)
    for place, feature in enumerate(block.features):
        made[:, place] = column(f"{FEATURE}{feature.name}")
    return made


def find_stream(data_dir: Path) -> Path | None:
    """The folder, if it holds an example stream."""
    return data_dir if (data_dir / STREAM).is_file() else None


def read_stream(folder: Path) -> tuple[Schema, Examples, Catalogue, Catalogue, History]:
    """All of a stream as one log: its schema, the rows by time, the ads and users as it last saw them, its events.

    Raises:
        DataError: the stream is damaged or has no rows.
    """
    reader = StreamReader(folder)
    parts = list(reader.read())
    if not parts:
        raise DataError("the example stream holds no rows yet", folder)
    whole = concat([each.examples for each in parts])
    order = np.argsort(whole.time_ms, kind="stable")
    ordered, events = whole.take(order), joined([each.events for each in parts]).take(order)
    sides = [{n: ordered.blocks[n] for n in BLOCK_NAMES if n.startswith(side)} for side in ("ad_", "user_")]
    return reader.form.schema, ordered, Catalogue.of(ordered.ad, sides[0]), Catalogue.of(ordered.user, sides[1]), events
