"""Requests made of the schema alone, or of a log.

Of the schema: random values over the features' whole ranges. Of a log: the user and context of a row that was really
served, and ads of the log's catalogue.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Catalogue, Examples
from exfm.data.source import Source
from exfm.features.schema import Feature, Schema
from exfm.features.signature import Block, blocks_of
from exfm.features.values import key_of
from loadtest.workload.asked import Workload, WorkloadError, asked_of
from loadtest.workload.sizes import Sizes
from serving.rpc.pb import ranking_pb2 as pb

Blocks = dict[str, NDArray[Any]]
EACH = 24
"""Different requests per size."""
_OWN_ADS = 10**15
"""Keys of candidates that stand for no known ad start here."""
_WIRE = (("ids", "<i8"), ("numbers", "<f4"))


@dataclass(frozen=True)
class Maker:
    """What all requests of a workload have in common; `parts(count)` gives the feature blocks and the ads of one."""

    vertical: str
    tasks: tuple[str, ...]
    draw: np.random.Generator
    parts: Callable[[int], tuple[Blocks, NDArray[np.int64]]]

    def workload(self, sizes: Sizes, each: int, origin: str) -> Workload:
        """`each` requests of each size, mixed."""
        return self.of_counts(self.draw.permutation(np.repeat(np.array(sizes.quantiles, np.int64), each)), origin)

    def of_counts(self, counts: NDArray[np.int64], origin: str) -> Workload:
        """Requests of so many candidates, in that order."""
        made = [asked_of(self._message(int(count), index), self.tasks) for index, count in enumerate(counts)]
        return Workload(self.vertical, origin, tuple(made))

    def _message(self, count: int, index: int) -> bytes:
        blocks, ads = self.parts(count)
        return pb.RankRequest(
            request_id=f"load-{index}",
            vertical=self.vertical,
            user=_side(blocks, "user"),
            context=_side(blocks, "context"),
            ads=_side(blocks, "ad"),
            ad_ids=ads.tolist(),
            bids=self.draw.lognormal(sigma=0.5, size=count).tolist(),
        ).SerializeToString()


@dataclass(frozen=True)
class Log:
    """Rows that were served, and the ads that are known, with a vertical's features; `draw` makes up the rest."""

    rows: Examples
    ads: Catalogue
    draw: np.random.Generator

    def request(self, row: int, first: NDArray[np.int64], count: int) -> tuple[Blocks, NDArray[np.int64]]:
        """Blocks and ads of a request for a row's user and context: the ads at `first`, then others of the catalogue.

        Where the catalogue is too small, ads come in copies, under keys that stand for no known ad.
        """
        others = self.draw.permutation(len(self.ads))
        known = np.concatenate([first, others[~np.isin(others, first)]])[:count]
        copies = self.draw.integers(0, len(self.ads), count - len(known))
        place = np.concatenate([known, copies])
        made = {name: column[place] for name, column in self.ads.blocks.items()}
        blocks = self.rows.blocks
        made |= {name: blocks[name][row : row + 1] for name in blocks if not name.startswith("ad_")}
        return made, np.concatenate([self.ads.key[known], _OWN_ADS + np.arange(len(copies))])


def from_schema(schema: Schema, vertical: str, sizes: Sizes, *, seed: int, each: int = EACH) -> Workload:
    """Random requests of a vertical; ids spread over their whole tables, as strangers' would.

    Args:
        schema: all features, or the vertical's.
        vertical: one of the schema's.
        sizes: candidates per request; each size gets `each` different ones, mixed in proportion.
        seed: decides everything.
        each: different requests per size.

    Raises:
        SizesError: the vertical takes fewer candidates.
        WorkloadError: the schema has no such vertical.
    """
    own = _own(schema, vertical)
    sizes.within(own.vertical(vertical).max_candidates, vertical)
    draw = np.random.default_rng(seed)

    def parts(count: int) -> tuple[Blocks, NDArray[np.int64]]:
        made = {block.name: random_block(block, _rows(block, count), draw) for block in _blocks(own)}
        return made, _OWN_ADS + draw.permutation(count)

    return Maker(vertical, own.vertical(vertical).tasks, draw, parts).workload(sizes, each, f"schema {schema.name}")


def from_source(
    source: Source, schema: Schema, vertical: str, sizes: Sizes, *, seed: int, each: int = EACH
) -> Workload:
    """Requests of a log's own users, contexts and ads; where the catalogue is too small, ads come in copies.

    Raises:
        SizesError: the vertical takes fewer candidates.
        WorkloadError: the log lacks features that the vertical reads, or has no such vertical.
    """
    own, log = log_of(source, schema, vertical, sizes, seed)
    draw = log.draw

    def parts(count: int) -> tuple[Blocks, NDArray[np.int64]]:
        return log.request(int(draw.integers(len(log.rows))), np.empty(0, np.int64), count)

    origin = f"log {source.name}, {len(log.rows):,} rows"
    return Maker(vertical, own.vertical(vertical).tasks, draw, parts).workload(sizes, each, origin)


def log_of(source: Source, schema: Schema, vertical: str, sizes: Sizes, seed: int) -> tuple[Schema, Log]:
    """The vertical's own schema, and a log with its features; raises as `from_source` does."""
    own = _own(schema, vertical)
    sizes.within(own.vertical(vertical).max_candidates, vertical)
    try:
        rows, ads = source.examples.project(source.schema, own), source.ads.project(source.schema, own)
    except KeyError as error:
        raise WorkloadError(f"log {source.name!r} lacks feature {error}, which vertical {vertical!r} reads") from error
    return own, Log(rows, ads, np.random.default_rng(seed))


def schema_of(description: pb.DescribeVerticalResponse) -> Schema:
    """The schema as the server describes it."""
    return Schema.from_dict(json.loads(description.schema_json))


def random_block(block: Block, rows: int, draw: np.random.Generator) -> NDArray[Any]:
    """Random values of a block's features, [rows, width] of its dtype."""
    made = np.empty((rows, block.width), block.dtype)
    for column, feature in enumerate(block.features):
        made[:, column] = _values(feature, rows, draw)
    return made


def _side(blocks: Blocks, name: str) -> pb.FeatureBlock:
    ids, numbers = (np.ascontiguousarray(blocks[f"{name}_{kind}"], dtype) for kind, dtype in _WIRE)
    return pb.FeatureBlock(ids=ids.tobytes(), numbers=numbers.tobytes())


def _own(schema: Schema, vertical: str) -> Schema:
    names = [each.name for each in schema.verticals]
    if vertical not in names:
        raise WorkloadError(f"schema {schema.name!r} has no vertical {vertical!r}; it has: {', '.join(names)}")
    return schema.for_vertical(vertical)


def _blocks(schema: Schema) -> list[Block]:
    return [block for side in ("user", "context", "ad") for block in blocks_of(schema, side)]


def _rows(block: Block, count: int) -> int:
    return count if block.side == "ad" else 1


def _values(feature: Feature, rows: int, draw: np.random.Generator) -> NDArray[Any]:
    if feature.kind == "id":
        return draw.integers(0, 2**40, rows)
    if feature.kind == "category":
        return draw.choice(np.array([key_of(value) for value in feature.vocabulary], np.int64), rows)
    cuts = feature.boundaries or (0.0, 1.0)
    return draw.uniform(cuts[0] - 1.0, cuts[-1] + 1.0, rows)
