"""An engine as the runner sees it; which one a version has stands in its `engine.json`."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ENGINE_FILE = "engine.json"


class Engine(Protocol):
    """Scores encoded requests."""

    def run(
        self,
        request_rows: NDArray[np.int64],
        candidate_rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        history: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Probabilities, each as if its request were alone.

        Args:
            request_rows: [B, user + context features], rows of the stacked table.
            candidate_rows: [M, ad features], the requests' candidates one request after the other.
            counts: [B], candidates per request, each at least 1; M together.
            history: [B, L * (d + 2)] where the schema has a history.

        Returns:
            [M, T].
        """
        ...


@dataclass(frozen=True)
class EngineFile:
    """What `engine.json` says.

    Attributes:
        engine: the name by which it was chosen.
        runtime: module of this package that runs it.
        golden_bound: how far a probability of the golden request may be off at load, absolute.
        golden_ne_loss: how much its normalized entropy may be above torch's then, a share.
        options: arguments for the module's `load`.
    """

    engine: str
    runtime: str
    golden_bound: float
    golden_ne_loss: float
    options: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Put it into a version's folder."""
        (folder / ENGINE_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def read_engine_file(folder: Path) -> EngineFile:
    """The version's; `OSError`, `ValueError` or `TypeError` if it is missing or not one."""
    return EngineFile(**json.loads((folder / ENGINE_FILE).read_text(encoding="utf-8")))


def load_engine(folder: Path, file: EngineFile) -> Engine:
    """Load the version's engine; imports nothing that it does not need, `ImportError` if that is missing."""
    engine: Engine = importlib.import_module(f"{__package__}.{file.runtime}").load(folder, **file.options)
    return engine
