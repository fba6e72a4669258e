"""The naive model that the peers serve: a DCN V2 over all features of each candidate, in one ONNX graph.

Naive means that nothing is made for serving: the user's and the context's features are repeated for every candidate and
go through all layers with it. Its weights are random, which costs the same time as trained ones; a trained model of the
same inputs can take its place (`repository_with`).

Layers after DCN V2 (Wang et al., WWW 2021, arXiv 2008.13535): cross x' = x0 * (U V x + b) + x with rank `RANK`
(equation 2 with W = U V), beside it an MLP, both into one linear head per task.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exfm.features.schema import Schema
from exfm.features.signature import PROBABILITY
from loadtest.peers.model import MANIFEST, Model, read_model
from loadtest.peers.samples import golden_sample
from loadtest.peers.servers.scoring import Scoring

DIMENSION = 16
"""Width of an embedding; what the published students have by default."""
CROSSES = 2
RANK = 64
HIDDEN = (256, 128)
OPSET = 18


def repository_with(graph: Path, model: Model, repository: Path, quality: dict[str, Any] | None = None) -> Model:
    """A model repository that serves `graph` as `model`'s vertical and version; everything else is `model`'s.

    Args:
        graph: ONNX with inputs `request_rows` int64 [B, U], `candidate_rows` int64 [N, C], `owner` int64 [N] and the
            output `probability` float32 [N, T].
        model: the published version that it stands in for.
        repository: the folder to write; replaced if it is there.
        quality: the manifest's entry; by default none is claimed.
    """
    shutil.rmtree(repository, ignore_errors=True)
    folder = repository / model.vertical / str(model.version)
    # With the plain files called __pycache__, which keep bytecode from being written beside the runner's modules.
    shutil.copytree(model.folder, folder, ignore=shutil.ignore_patterns("model.onnx*"))
    shutil.copyfile(model.folder.parent / "config.pbtxt", folder.parent / "config.pbtxt")
    shutil.copyfile(graph, folder / "model.onnx")
    answer = Scoring(folder).score([golden_sample(model).body()])[0]
    golden: dict[str, Any] = {**model.golden, PROBABILITY: np.frombuffer(answer, "<f4").reshape(-1, model.tasks)}
    np.savez(folder / "golden.npz", **golden)
    manifest = {**model.manifest, "quality": quality or {}, "lineage": {"graph": graph.name}, "files": _hashes(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return read_model(folder)


def write_graph(schema: Schema, path: Path, seed: int = 0) -> None:
    """Write the DCN V2 with random weights for a vertical's own schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    width = len(schema.ordered) * DIMENSION
    made = _Graph(draw)
    made.add("Gather", ("request_rows", "owner"), "per_candidate", axis=0)
    made.add("Concat", ("per_candidate", "candidate_rows"), "rows", axis=1)
    made.constant("table", draw.normal(0, 0.05, (schema.rows, DIMENSION)))
    made.add("Gather", ("table", "rows"), "embeddings", axis=0)
    made.add("Flatten", ("embeddings",), "x0", axis=1)
    cross = _cross(made, width)
    deep = "x0"
    for at, (inner, outer) in enumerate(zip((width, *HIDDEN), HIDDEN, strict=False)):
        made.add("Relu", (made.linear(f"deep{at}", deep, inner, outer),), f"hidden{at}")
        deep = f"hidden{at}"
    made.add("Concat", (cross, deep), "both", axis=1)
    made.add("Sigmoid", (made.linear("head", "both", width + HIDDEN[-1], len(schema.tasks)),), PROBABILITY)
    user = len(schema.ordered) - len(schema.side("ad"))
    shapes: dict[str, list[str | int]] = {
        "request_rows": ["requests", user],
        "candidate_rows": ["candidates", len(schema.side("ad"))],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in shapes.items()]
    inputs.append(helper.make_tensor_value_info("owner", TensorProto.INT64, ["candidates"]))
    output = helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, ["candidates", len(schema.tasks)])
    graph = helper.make_graph(made.nodes, "naive", inputs, [output], made.weights)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(whole)
    onnx.save(whole, str(path))


def _cross(made: "_Graph", width: int) -> str:
    x = "x0"
    for at in range(CROSSES):
        made.constant(f"v{at}", made.draw.normal(0, width**-0.5, (width, RANK)))
        made.add("MatMul", (x, f"v{at}"), f"low{at}")
        mixed = made.linear(f"cross{at}", f"low{at}", RANK, width)
        made.add("Mul", ("x0", mixed), f"product{at}")
        made.add("Add", (f"product{at}", x), f"x{at + 1}")
        x = f"x{at + 1}"
    return x


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.draw = draw
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))

    def constant(self, name: str, values: NDArray[np.float64]) -> None:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))

    def linear(self, name: str, source: str, inner: int, outer: int) -> str:
        """Adds source @ weight + bias, [N, inner] -> [N, outer]; the output's name."""
        self.constant(f"{name}_weight", self.draw.normal(0, inner**-0.5, (inner, outer)))
        self.constant(f"{name}_bias", np.zeros(outer))
        self.add("Gemm", (source, f"{name}_weight", f"{name}_bias"), f"{name}_out")
        return f"{name}_out"


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 in hex by path within the version, as the manifest lists them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
