"""A training step spread over ranks: tables row-wise, everything else a copy per rank; imports torchrec."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
from torchrec.distributed.types import ShardingPlan

from exfm.models.sharded.layout import PARTS, table_name
from exfm.models.sharded.ranks import Ranks
from exfm.models.sharded.table import ShardedTable


def spread(step: nn.Module, table: ShardedTable, ranks: Ranks) -> Any:
    """The same step, to be called on all ranks; its tables are sharded in place.

    Gradients are means over the ranks, of tables and of everything else.

    Args:
        step: gives a loss; holds `table` somewhere.
        table: with its step sizes chosen; on no device yet.
        ranks: all of them.
    """
    where = {id(module): name for name, module in step.named_modules()}
    sharder = EmbeddingCollectionSharder()
    plans = {}
    for part in PARTS:
        collection = getattr(table, part)
        each = {table_name(part, place): row_wise() for place in range(len(table.layout.rows))}
        plans[where[id(collection)]] = construct_module_sharding_plan(
            collection, each, sharder, ranks.local, ranks.world, ranks.device.type
        )
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # that torchrec calls an old name of torch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the like
        return DistributedModelParallel(step, device=ranks.device, plan=ShardingPlan(plans), sharders=[sharder])


def shards(table: ShardedTable) -> dict[str, Any]:
    """Weights and accumulators of the tables, by name: sharded tensors that share their memory with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return dict(_shards(table))


def _shards(table: ShardedTable) -> Iterator[tuple[str, Any]]:
    for part in PARTS:
        collection = getattr(table, part)
        weights = collection.state_dict()
        states: Mapping[str, Mapping[str, Any]] = collection.fused_optimizer.state_dict()["state"]
        for place in range(len(table.layout.rows)):
            name = table_name(part, place)
            yield f"weight.{name}", weights[f"embeddings.{name}.weight"]
            yield f"accumulated.{name}", states[f"embeddings.{name}.weight"][f"{name}.momentum1"]


@torch.no_grad()
def fill(table: ShardedTable, weight: Tensor) -> None:
    """Give the tables the weights of a stacked one, float32 [rows, dimension + tasks], the same on each rank."""
    whole = table.layout.split(weight)
    for part in PARTS:
        for name, sharded in getattr(table, part).state_dict().items():
            source = whole[part, int(name.split(".")[1].rpartition("_")[2])]
            for shard in sharded.local_shards():
                rows, count = shard.metadata.shard_offsets[0], len(shard.tensor)
                shard.tensor.copy_(source[rows : rows + count])


def wait() -> None:
    """Until all ranks are here."""
    dist.barrier()
