"""The engines by name: what each needs, what its files are, and how exact it has to be."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exporter.engines.accuracy import GOLDEN_NE_LOSS
from exporter.engines.workshop import Files, Workshop
from exporter.runner.engine import EngineFile
from exporter.verify import PARITY_BOUND

CPU_INFO = Path("/proc/cpuinfo")
COMPILER = os.environ.get("CXX", "g++")
"""What AOTInductor calls."""
ROWS16, BF16, INT8 = 1e-3, 5e-3, 3e-2
"""How far a probability may be off, absolute: rows rounded to float16; arithmetic in bfloat16; matrices in int8."""


LEAST_BOUND = 5e-5
"""No version states less, but in fp32: canaries then tolerate as much as they do there."""


@dataclass(frozen=True)
class Recipe:
    """An engine.

    Attributes:
        runtime: the module of `exporter.runner` that runs it.
        packages: what it imports besides numpy, at export and in the server.
        bound: largest difference of a probability to torch's, absolute.
        files: makes its files.
        options: for the runtime's `load`, out of the workshop that made the files.
        split: whether it needs a model that takes gathered rows.
        processor: flags of which the processor must have one; none: any will do.
        tools: programs that the export needs.
    """

    runtime: str
    packages: tuple[str, ...]
    bound: float
    files: Callable[[Workshop], Files]
    options: Callable[[Workshop], Mapping[str, Any]] = lambda shop: {"most": shop.most}
    split: bool = True
    processor: tuple[str, ...] = field(default=())
    tools: tuple[str, ...] = field(default=())

    def engine_file(self, name: str, shop: Workshop) -> EngineFile:
        """What `engine.json` says of it before anything was measured; see `bounded`."""
        return bounded(EngineFile(name, self.runtime, 0.0, GOLDEN_NE_LOSS, self.options(shop)), self.bound)

    def bound_for(self, measured: float) -> float:
        """The bound that a version states, which canaries go by, given the largest difference that was measured.

        What an engine of its kind may be off says little of this one: as much again as was seen is enough.
        """
        return min(self.bound, max(2 * measured, LEAST_BOUND))


def bounded(file: EngineFile, bound: float) -> EngineFile:
    """The file with a bound for the golden request that follows from the version's.

    Another processor may round differently, in fp32 by some last bits, otherwise as much again as this one.
    """
    return replace(file, golden_bound=(10 if bound <= PARITY_BOUND else 2) * bound)


def _torch(*, compiled: bool) -> Callable[[Workshop], Mapping[str, Any]]:
    return lambda shop: {
        "most": shop.most,
        "features": [shop.widths.request, shop.widths.candidate],
        "history": shop.widths.history,
        "compiled": compiled,
    }


def _openvino(precision: str) -> Callable[[Workshop], Mapping[str, Any]]:
    return lambda shop: {"most": shop.most, "precision": precision}


RECIPES: dict[str, Recipe] = {
    "onnx": Recipe("whole", ("onnxruntime",), PARITY_BOUND, Workshop.whole, lambda _: {}, split=False),
    "onnx_rows_fp32": Recipe("rows_onnx", ("onnxruntime",), PARITY_BOUND, lambda shop: shop.rows("float32")),
    "onnx_rows": Recipe("rows_onnx", ("onnxruntime",), ROWS16, lambda shop: shop.rows("float16")),
    "openvino_bf16": Recipe(
        "rows_openvino",
        ("openvino",),
        BF16,
        lambda shop: shop.rows("float16"),
        _openvino("bf16"),
        processor=("avx512_bf16", "amx_bf16"),
    ),
    "onnx_int8": Recipe("rows_onnx", ("onnxruntime",), INT8, lambda shop: shop.int8(static=False)),
    "openvino_int8": Recipe(
        "rows_openvino",
        ("openvino",),
        INT8,
        lambda shop: shop.int8(static=True),
        _openvino("f32"),
        processor=("avx512_vnni", "avx_vnni", "amx_int8"),
    ),
    "torch": Recipe("rows_torch", ("torch",), ROWS16, Workshop.program, _torch(compiled=False)),
    "torch_aoti": Recipe(
        "rows_torch",
        ("torch",),
        ROWS16,
        lambda shop: shop.program(compiled=True),
        _torch(compiled=True),
        tools=(COMPILER,),
    ),
}
"""Most exact first: where speeds are equal, the earlier one serves."""


def processor_flags(path: Path = CPU_INFO) -> frozenset[str]:
    """What the processor can do, in the kernel's words; empty where the kernel does not say."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
