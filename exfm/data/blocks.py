"""A file's columns as the feature blocks of a schema."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from exfm.data import columns
from exfm.data.examples import Blocks
from exfm.data.table import Column, Table
from exfm.features.schema import Feature, Schema, Side
from exfm.features.signature import Block, blocks_of


def read_blocks(schema: Schema, sides: Iterable[Side], table: Table) -> Blocks:
    """The two blocks of each given side, one row per row of the table.

    Raises:
        DataError: a feature's column is missing, or one of its cells is no value of the feature's kind.
    """
    blocks = [block for side in sides for block in blocks_of(schema, side)]
    return {block.name: _read_block(block, table) for block in blocks}


def _read_block(block: Block, table: Table) -> NDArray[np.int64] | NDArray[np.float32]:
    made = np.empty((len(table), block.width), block.dtype)
    for index, feature in enumerate(block.features):
        made[:, index] = _read_feature(feature, table.column(feature.source))
    return made


def _read_feature(feature: Feature, column: Column) -> NDArray[np.int64] | NDArray[np.float32]:
    if feature.kind == "number":
        return columns.numbers(column, feature.default)
    read: Callable[[Column], NDArray[np.int64]] = columns.ids
    if feature.kind == "category":
        read = columns.texts if isinstance(feature.vocabulary[0], str) else columns.integers
    return read(column)
