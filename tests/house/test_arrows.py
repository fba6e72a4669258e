"""The arrows between rooms, read from every import statement."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("exfm", "exporter", "serving", "loadtest", "demo", "bench")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "pb" not in path.parts)

# What a room may import of ours; the longest matching prefix of the file's module counts.
ALLOWED = {
    "exfm.features": ("exfm.features",),
    "exfm.data": ("exfm.features", "exfm.data"),
    "exfm.models": ("exfm.features", "exfm.models"),
    "exfm.distill": ("exfm.features", "exfm.data", "exfm.models", "exfm.distill"),
    "exfm": ("exfm",),
    "exporter.runner": ("exfm.features", "exporter.runner"),
    "exporter": ("exfm", "exporter"),
    "exfm.events": ("exfm.features", "exfm.events"),
    "serving": ("exfm.features", "exfm.events", "serving"),
    "loadtest": (
        "exfm.features",
        "exfm.data",
        "serving.client",
        "serving.caller",
        "serving.rpc.packed",
        "serving.rpc.pb",
        "loadtest",
    ),
    "loadtest.arrivals": ("loadtest.arrivals",),
    "loadtest.workload": ("exfm.features", "exfm.data", "serving.rpc.pb", "loadtest.workload"),
    "loadtest.checking": ("serving.rpc.pb", "loadtest.workload", "loadtest.checking"),
    "loadtest.driving": (
        "serving.caller",
        "serving.rpc.pb",
        "loadtest.workload",
        "loadtest.checking",
        "loadtest.driving",
    ),
    "loadtest.verdict": ("serving.client", "loadtest.checking", "loadtest.driving", "loadtest.verdict"),
    "loadtest.report": ("loadtest.arrivals", "loadtest.checking", "loadtest.verdict", "loadtest.report"),
    "demo": ROOMS,
    "bench": ROOMS,
}
# Foreign libraries that would cost a room its independence.
FORBIDDEN = {
    "exfm.features": ("torch", "pyarrow", "pandas", "grpc", "onnxruntime"),
    "exporter.runner": ("torch", "onnx.", "pyarrow", "grpc"),
    "exporter.runner.rows_torch": (),
    "serving": ("torch", "onnx", "pyarrow"),
    "serving.budget": ("grpc", "tritonclient", "fastapi", "prometheus_client", "torch"),
    "serving.admission": ("grpc", "tritonclient", "fastapi", "prometheus_client", "torch"),
    "serving.ladder": ("grpc", "tritonclient", "fastapi", "prometheus_client", "torch"),
    "serving.balance": ("grpc", "tritonclient", "fastapi", "prometheus_client", "torch"),
    "loadtest": ("torch",),
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{prefix.removesuffix('.')}.") for prefix in prefixes)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_only_what_its_arrows_allow(path: Path) -> None:
    module = module_of(path)
    room = max((key for key in ALLOWED if inside(module, (key,))), key=len)
    ours = {name for name in imports_of(path) if inside(name, ROOMS)}
    assert {name for name in ours if not inside(name, ALLOWED[room])} == set()
    keys = [key for key in FORBIDDEN if inside(module, (key,))]
    banned = () if module in keys and not FORBIDDEN[module] else tuple(name for key in keys for name in FORBIDDEN[key])
    assert {name for name in imports_of(path) if inside(name, banned)} == set()


def test_no_import_cycle_between_modules() -> None:
    modules = {module_of(path): path for path in FILES}
    edges = {name: {_owner(target, modules) for target in imports_of(path)} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for target in sorted(t for t in edges[name] if t and t != name):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(modules):
        visit(name, ())


def _owner(target: str, modules: dict[str, Path]) -> str:
    if target in modules:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in modules else ""


def test_every_room_was_read() -> None:
    assert {module_of(path).split(".")[0] for path in FILES} == set(ROOMS)
