"""What the server says of a vertical."""

import json
from collections.abc import Iterable

from exfm.features.signature import Block
from serving.catalog import Vertical
from serving.ladder.tier import Tier
from serving.rpc.pb import ranking_pb2 as pb


def describe(vertical: Vertical, tiers: Iterable[Tier], verticals: Iterable[str]) -> pb.DescribeVerticalResponse:
    """Layout, limits, versions and tiers of one vertical; blocks without columns are left out.

    `verticals`: the names of all that the server has.
    """
    return pb.DescribeVerticalResponse(
        vertical=vertical.name,
        tasks=vertical.tasks,
        budget_ms=vertical.budget_s * 1e3,
        max_candidates=vertical.max_candidates,
        blocks=[_layout(block) for block in vertical.blocks if block.width],
        schema_hash=vertical.schema.digest,
        schema_json=json.dumps(vertical.schema.to_dict()),
        model=pb.ModelVersion(name=vertical.name, version=vertical.version),
        tiers=[tier.wire_name for tier in tiers],
        verticals=sorted(verticals),
    )


def _layout(block: Block) -> pb.BlockLayout:
    columns = [
        pb.FeatureColumn(name=feature.name, kind=feature.kind, vocabulary_size=len(feature.vocabulary))
        for feature in block.features
    ]
    return pb.BlockLayout(side=block.side, kind=block.kind, columns=columns, row_bytes=block.row_bytes)
