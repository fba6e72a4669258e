"""A model spread over ranks: tables row-wise, everything else a copy per rank; imports torchrec."""

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

KERNEL = "fused"
"""It learns in the backward pass, and where nothing is to be learned it has no gradients to keep."""


def spread(step: nn.Module, table: ShardedTable, ranks: Ranks, *, learning: bool = True) -> Any:
    """The same step, to be called on all ranks; its tables are sharded in place.

    Gradients are means over the ranks, of tables and of everything else.

    Args:
        step: gives a loss, or holds what only answers; holds `table` somewhere.
        table: with its step sizes chosen, if it is to learn; on no device yet.
        ranks: all of them.
        learning: without, ranks share nothing but the tables, and there are no gradients.
    """
    where = {id(module): name for name, module in step.named_modules()}
    sharder = EmbeddingCollectionSharder()
    plans = {}
    for part in PARTS:
        collection = getattr(table, part)
        each = {table_name(part, place): row_wise(compute_kernel=KERNEL) for place in range(len(table.layout.rows))}
        plans[where[id(collection)]] = construct_module_sharding_plan(
            collection, each, sharder, ranks.local, ranks.world, ranks.device.type
        )
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # that torchrec calls an old name of torch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the like
        return DistributedModelParallel(
            step, device=ranks.device, plan=ShardingPlan(plans), sharders=[sharder], init_data_parallel=learning
        )


def shards(table: ShardedTable) -> dict[str, Any]:
    """Weights and accumulators of the tables, by name: sharded tensors that share their memory with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return {**dict(_weights(table)), **dict(_accumulated(table))}


def weights(table: ShardedTable) -> dict[str, Any]:
    """The weights alone, of tables that learn or don't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return dict(_weights(table))


def _weights(table: ShardedTable) -> Iterator[tuple[str, Any]]:
    for part in PARTS:
        tensors = getattr(table, part).state_dict()
        for name in _names(table, part):
            yield f"weight.{name}", tensors[f"embeddings.{name}.weight"]


def _accumulated(table: ShardedTable) -> Iterator[tuple[str, Any]]:
    for part in PARTS:
        states: Mapping[str, Mapping[str, Any]] = getattr(table, part).fused_optimizer.state_dict()["state"]
        for name in _names(table, part):
            yield f"accumulated.{name}", states[f"embeddings.{name}.weight"][f"{name}.momentum1"]


def _names(table: ShardedTable, part: str) -> list[str]:
    return [table_name(part, place) for place in range(len(table.layout.rows))]


@torch.no_grad()
def fill(table: ShardedTable, weight: Tensor) -> None:
    """Give the tables the weights of a stacked one, float32 [rows, dimension + tasks], the same on each rank.

    Only this rank's rows of it are looked at, so that it may be larger than memory, in a mapped file.
    """
    layout = table.layout
    for part in PARTS:
        tensors = getattr(table, part).state_dict()
        for place, name in enumerate(_names(table, part)):
            for shard in tensors[f"embeddings.{name}.weight"].local_shards():
                first = shard.metadata.shard_offsets[0]
                own = layout.piece(weight, part, place, slice(first, first + len(shard.tensor)))
                shard.tensor[:, : layout.columns(part)].copy_(own)


def wait() -> None:
    """Until all ranks are here."""
    dist.barrier()
