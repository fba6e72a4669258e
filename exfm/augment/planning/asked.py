"""What torchrec's own planner says of the tables, where it is installed and has something to say."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exfm.augment.annotate.forward import line_of
from exfm.augment.planning.plan import RESERVE, Cluster, TeacherSize
from exfm.models.sharded.extra import ShardingError, require_torchrec
from exfm.models.sharded.layout import MULTIPLE

TYPES = {4: "FP32", 2: "FP16", 1: "INT8"}


@dataclass(frozen=True)
class Answer:
    """Of torchrec's planner.

    Attributes:
        asked: whether it was.
        fits: whether it found a plan; None if it wasn't asked.
        said: in one line.
    """

    asked: bool
    fits: bool | None
    said: str


def ask_torchrec(size: TeacherSize, cluster: Cluster, kind: str, tables: Sequence[int] = ()) -> Answer:
    """Ask for a row-wise plan of the tables alone, without gradients or states.

    Args:
        size: of the teacher.
        cluster: devices and their memory.
        kind: "cpu" or "cuda".
        tables: rows of each; as many equal ones as there are features, if not given.
    """
    if cluster.devices < 2:
        return Answer(False, None, "not asked: there is one device, nothing to spread")
    if size.weight_bytes not in TYPES:
        return Answer(False, None, f"not asked: it knows no weights of {size.weight_bytes} bytes")
    try:
        require_torchrec()
    except ShardingError as error:
        return Answer(False, None, f"not asked: {error}")
    rows = list(tables) or [-(-size.rows // size.features)] * size.features
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of topologies that are not of this machine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _asked(size, cluster, kind, rows)
    finally:
        logging.disable(level)


def _asked(size: TeacherSize, cluster: Cluster, kind: str, rows: list[int]) -> Answer:
    import torch  # noqa: PLC0415  # all of this costs seconds
    from torchrec import EmbeddingCollection, EmbeddingConfig  # noqa: PLC0415
    from torchrec.distributed.embedding import EmbeddingCollectionSharder  # noqa: PLC0415
    from torchrec.distributed.embedding_types import EmbeddingComputeKernel  # noqa: PLC0415
    from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology  # noqa: PLC0415
    from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation  # noqa: PLC0415
    from torchrec.distributed.planner.types import ParameterConstraints, PlannerError  # noqa: PLC0415
    from torchrec.modules.embedding_configs import DataType  # noqa: PLC0415

    width = -(-size.columns // MULTIPLE) * MULTIPLE
    data_type = DataType[TYPES[size.weight_bytes]]
    collection = EmbeddingCollection(
        tables=[
            EmbeddingConfig(
                num_embeddings=count,
                embedding_dim=width,
                name=f"table_{place}",
                feature_names=[str(place)],
                data_type=data_type,
            )
            for place, count in enumerate(rows)
        ],
        device=torch.device("meta"),
    )
    memory = {"hbm_cap" if kind == "cuda" else "ddr_cap": round(cluster.memory_bytes)}
    free: dict[str, Any] = {"ddr_cap": 0} if kind == "cuda" else {}
    planner = EmbeddingShardingPlanner(
        topology=Topology(cluster.devices, kind, **free, **memory),
        storage_reservation=FixedPercentageStorageReservation(RESERVE),
        constraints={
            f"table_{place}": ParameterConstraints(
                sharding_types=["row_wise"], compute_kernels=[EmbeddingComputeKernel.FUSED.value], pooling_factors=[1.0]
            )
            for place in range(len(rows))
        },
    )
    try:
        planner.plan(collection, [EmbeddingCollectionSharder()])
    except PlannerError as error:
        return Answer(True, False, f"no plan: {line_of(error)}")
    return Answer(True, True, f"{len(rows)} tables row-wise over {cluster.devices} devices")
