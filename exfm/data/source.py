"""Where examples come from: a data folder, whatever its layout, or the simulator if there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.data import annotated, kuairand, simulator, tabular
from exfm.data.chunks import day_of
from exfm.data.errors import DataError
from exfm.data.examples import Catalogue, Examples
from exfm.features.history import History
from exfm.features.schema import Schema

__all__ = ["ENVIRONMENT", "Catalogue", "Source", "open_source", "resolve_data_dir"]

ENVIRONMENT = "EXFM_DATA_DIR"
"""The environment variable that names the data folder."""


@dataclass(frozen=True)
class Source:
    """All that training and measuring need of one log.

    Attributes:
        name: `kuairand_pure`, `simulator`, or the name in the log's own schema.
        schema: all features; a vertical's student sees `schema.for_vertical(...)`.
        examples: all rows in time order.
        ads: every ad that is known, to sample candidates from.
        users: every user that is known.
        utc_offset_h: hours by which the zone of the log's days is ahead of UTC.
        events: what the rows put into their users' histories, row i as event i; None where no teacher gave embeddings.
    """

    name: str
    schema: Schema
    examples: Examples
    ads: Catalogue
    users: Catalogue
    utc_offset_h: float = 0.0
    events: History | None = None

    @cached_property
    def days(self) -> NDArray[np.int64]:
        """The day of each row, int64 [N], as days since 1970-01-01 in the log's zone; ascending."""
        return day_of(self.examples.time_ms, self.utc_offset_h)

    @cached_property
    def last_day(self) -> int:
        """The row where the last day starts: rows from here on are the usual hold-out."""
        return int(np.searchsorted(self.days, self.days[-1]))


def resolve_data_dir(cli: str | None, environ: Mapping[str, str]) -> Path | None:
    """The data folder: the command line's, else the environment's, else None (the simulator).

    Raises:
        DataError: the folder does not exist.
    """
    asked, given = (cli, "--data") if cli else (environ.get(ENVIRONMENT), ENVIRONMENT)
    if not asked:
        return None
    path = Path(asked).expanduser()
    if not path.is_dir():
        raise DataError(f"given by {given}, but there is no such directory", path)
    return path


def open_source(data_dir: Path | None, seed: int = 0) -> Source:
    """Read a data folder, or simulate.

    Args:
        data_dir: holds an example stream, or a schema file with logs, or KuaiRand-Pure (itself or as a subfolder);
            None: the simulator.
        seed: of the simulator; files don't depend on it.

    Raises:
        DataError: the folder holds nothing that is recognised, or a file in it is bad.
        SchemaError: the schema file contradicts itself.
    """
    if data_dir is None:
        return Source("simulator", *simulator.simulate(seed))
    if stream := annotated.find_stream(data_dir):
        return annotated_source(stream)
    if log := tabular.find_log(data_dir):
        schema, examples, ads, users = tabular.read_log(log)
        return Source(schema.name, schema, _with_rows(examples, data_dir), ads, users)
    if layout := kuairand.find_layout(data_dir):
        schema, examples, ads, users = kuairand.read_kuairand(layout)
        return Source(schema.name, schema, _with_rows(examples, data_dir), ads, users, kuairand.UTC_OFFSET_H)
    raise DataError(f"expected {annotated.LOOKED_FOR}; or {tabular.LOOKED_FOR}; or {kuairand.LOOKED_FOR}", data_dir)


def annotated_source(folder: Path) -> Source:
    """All of an example stream; `DataError` if it is damaged or has no rows."""
    schema, examples, ads, users, events = annotated.read_stream(folder)
    return Source(schema.name, schema, examples, ads, users, events=events)


def _with_rows(examples: Examples, data_dir: Path) -> Examples:
    if not len(examples):
        raise DataError("the log holds no rows", data_dir)
    return examples
