"""A vertical as its caller knows it, and raw values on their way into feature blocks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.encoding import MISSING
from exfm.features.schema import Feature, Schema, Side
from exfm.features.signature import Block, blocks_of
from exfm.features.values import key_of
from serving.errors import InvalidRequestError
from serving.rpc.pb import ranking_pb2 as pb

Value = int | float | str | None
Row = Mapping[str, Value]
Column = Sequence[Value] | NDArray[np.generic]
Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Prepared:
    """Feature values that are encoded already, little-endian rows as `DescribeVertical` lays them out.

    Attributes:
        ids: int64 rows.
        numbers: float32 rows.
    """

    ids: bytes = b""
    numbers: bytes = b""


Features = Columns | Sequence[Row] | Prepared


class Layout:
    """What one version of a vertical expects."""

    def __init__(self, description: pb.DescribeVerticalResponse) -> None:
        self.name = description.vertical
        self.version = description.model.version
        self.tasks = tuple(description.tasks)
        self.budget_s = description.budget_ms / 1e3
        self.max_candidates = description.max_candidates
        self._schema = Schema.from_dict(json.loads(description.schema_json))

    def block(self, side: Side, features: Features, rows: int) -> pb.FeatureBlock:
        """One side's features as bytes.

        Args:
            side: whose features.
            features: a sequence of rows, or columns by feature name, or prepared bytes. A feature that isn't given, and
                a value that is None (for numbers also NaN), is missing.
            rows: how many rows there must be.

        Raises:
            InvalidRequestError: a name is no feature of that side, or a value isn't of its feature's kind.
        """
        if isinstance(features, Prepared):
            return pb.FeatureBlock(ids=features.ids, numbers=features.numbers)
        ids, numbers = blocks_of(self._schema, side)
        columns = _columns(features, (*ids.features, *numbers.features), side)
        return pb.FeatureBlock(ids=_pack(ids, columns, rows), numbers=_pack(numbers, columns, rows))


def keys(values: Sequence[int | str] | NDArray[np.int64], what: str = "ad_ids") -> NDArray[np.int64]:
    """int64 [N] keys of integers or strings; `InvalidRequestError` names the row of anything else."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return values.astype(np.int64, copy=False)
    return np.array([_key(value, what, row) for row, value in enumerate(values)], np.int64)


def _columns(features: Columns | Sequence[Row], known: Sequence[Feature], side: Side) -> Columns:
    names = {feature.name for feature in known}
    given = features.keys() if isinstance(features, Mapping) else {name for row in features for name in row}
    if unknown := sorted(set(given) - names):
        raise InvalidRequestError(
            f"{unknown[0]!r} is no feature of side {side!r}; there are: {', '.join(sorted(names))}"
        )
    if isinstance(features, Mapping):
        return features
    return {name: [row.get(name) for row in features] for name in names}


def _pack(block: Block, columns: Columns, rows: int) -> bytes:
    encode = _ids if block.kind == "ids" else _numbers
    packed = np.empty((rows, block.width), block.dtype)
    for index, feature in enumerate(block.features):
        column = columns.get(feature.name)
        column = [None] * rows if column is None else column
        if len(column) != rows:
            raise InvalidRequestError(f"feature {feature.name!r}: {len(column)} values for {rows} rows")
        packed[:, index] = encode(feature, column)
    return packed.tobytes()


def _ids(feature: Feature, column: Column) -> NDArray[np.int64]:
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        return column.astype(np.int64)
    what = f"feature {feature.name!r}"
    return np.array([MISSING if v is None else _key(v, what, row) for row, v in enumerate(column)], np.int64)


def _key(value: object, what: str, row: int) -> int:
    if isinstance(value, str):
        return key_of(value)
    if isinstance(value, int | np.integer) and -(2**63) <= value < 2**63:
        return int(value)
    raise InvalidRequestError(f"{what}: row {row} is {value!r}, neither a string nor an integer of 64 bits")


def _numbers(feature: Feature, column: Column) -> NDArray[np.float32]:
    try:
        values = np.array([np.nan if value is None else value for value in column], np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"feature {feature.name!r}: {error}") from error
    values[np.isnan(values)] = feature.default
    if not np.isfinite(values).all():
        raise InvalidRequestError(f"feature {feature.name!r}: row {int(np.argmax(np.isinf(values)))} is infinite")
    return values
