"""Files that engines are made of; each is made once, however many engines need it."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import Schema
from exfm.features.signature import CANDIDATE_SIDES, REQUEST_SIDES
from exporter.engines.dense import Widths, table_of, write_dense_onnx, write_dense_program
from exporter.engines.int8 import quantize_dynamic, quantize_static
from exporter.engines.requests import random_rows
from exporter.trace import ServedStudent, write_graph
from exporter.verify import check_dense_weights, check_open, check_weights

Files = Mapping[str, Path]
"""Path of a finished file by the name that it has in a version's folder."""


class Workshop:
    """Makes files in a folder of its own."""

    def __init__(self, served: ServedStudent, schema: Schema, folder: Path) -> None:
        self.served, self.schema, self._folder = served, schema, folder
        self._own = getattr(served, "own", False)
        request = sum(len(schema.side(side)) for side in REQUEST_SIDES)
        candidate = sum(len(schema.side(side)) for side in CANDIDATE_SIDES)
        self.widths = Widths(request, candidate, schema.history.width if schema.history else 0)
        self.most = max(vertical.max_candidates for vertical in schema.verticals)

    def whole(self) -> Files:
        """The graph with the table inside; its weights are proved to be the student's, if it is ours."""

        def make(folder: Path) -> None:
            graph = write_graph(self.served, self.schema, folder / "model.onnx")
            if self._own:
                check_open(graph)
            else:
                check_weights(graph, self.served)

        return self._made("whole", make)

    def rows(self, dtype: str) -> Files:
        """The table beside the dense graph, both in `dtype`; the graph's weights are proved as in `whole`."""

        def make(folder: Path) -> None:
            np.save(folder / "rows.npy", table_of(self.served, dtype))
            graph = write_dense_onnx(self.served, self.widths, dtype, folder / "dense.onnx")
            if not self._own:
                check_dense_weights(graph, self.served)

        return self._made(f"rows-{dtype}", make)

    def int8(self, *, static: bool) -> Files:
        """As `rows` in float16, with the dense graph's matrices in 8 bits."""
        plain = self.rows("float16")

        def make(folder: Path) -> None:
            os.link(plain["rows.npy"], folder / "rows.npy")
            if static:
                batch = random_rows(self.schema, self.trained(), seed=1)
                quantize_static(plain["dense.onnx"], folder / "dense.onnx", np.load(plain["rows.npy"]), batch)
            else:
                quantize_dynamic(plain["dense.onnx"], folder / "dense.onnx")

        return self._made("int8-static" if static else "int8-dynamic", make)

    def program(self, *, compiled: bool = False) -> Files:
        """As `rows` in float16, with the dense part as a torch program, or compiled for the CPU."""
        plain = self.rows("float16")

        def make(folder: Path) -> None:
            os.link(plain["rows.npy"], folder / "rows.npy")
            write_dense_program(self.served, self.widths, "float16", folder / "dense.pt2", compiled=compiled)

        return self._made("compiled" if compiled else "program", make)

    def trained(self) -> NDArray[np.bool_]:
        """bool [rows]: which rows of the table training has touched, as far as first-order weights tell (they start
        at zero)."""
        table = getattr(getattr(self.served, "student", None), "table", None)
        if table is None or not hasattr(table, "dimension"):
            return np.ones(self.schema.rows, bool)
        touched: NDArray[np.bool_] = (table.weight.detach()[:, table.dimension :] != 0).any(dim=1).numpy()
        return touched

    def _made(self, name: str, make: Callable[[Path], None]) -> Files:
        folder = self._folder / name
        if not folder.is_dir():
            aside = self._folder / f"{name}.partial"
            aside.mkdir()
            make(aside)
            aside.rename(folder)
        return {path.name: path for path in sorted(folder.iterdir())}
