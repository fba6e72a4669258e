"""What the model is: names, version, schema, tensors, files."""

from collections.abc import Iterator, Mapping
from typing import Any

from tritonclient.grpc import model_config_pb2

from exfm.features.signature import OWNER
from exporter.configure import FRONTEND, input_shape, output_shapes
from exporter.home import OWN_CONFIG
from exporter.integrity import made_later
from exporter.lint.facts import Facts
from exporter.lint.finding import Finding

SCHEMA_HASH = "schema_hash"
_FILES = {"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan", "pytorch": "model.pt"}
_TYPES = {"int64": model_config_pb2.TYPE_INT64, "float32": model_config_pb2.TYPE_FP32}


def name(config: Any, facts: Facts) -> Iterator[Finding]:
    """Triton finds a model by its folder."""
    if config.name and config.name != facts.name:
        yield Finding(
            "name",
            "error",
            f"name is {config.name!r}, the folder is {facts.name!r}",
            "Triton refuses the model",
            f'name: "{facts.name}"',
        )


def pinned(config: Any, facts: Facts) -> Iterator[Finding]:
    """One version, named."""
    policy = config.version_policy
    versions = list(policy.specific.versions)
    if len(versions) != 1:
        kind = policy.WhichOneof("policy_choice") or "missing"
        yield Finding(
            "version-not-pinned",
            "error",
            f"version_policy is {kind}, with {len(versions)} versions named",
            "what is served depends on which folders there are when Triton looks, half-written ones included; "
            "the frontend does not start",
            "version_policy { specific { versions: N } }",
        )
    elif facts.manifest is None:
        yield Finding(
            "version-missing",
            "error",
            f"version {versions[0]} is named, and there is no such complete version",
            "neither Triton nor the frontend starts",
            "exfm-export rollback, or publish anew",
        )


def schema_hash(config: Any, facts: Facts) -> Iterator[Finding]:
    """The schema that features are encoded by, on both sides."""
    found = config.parameters[SCHEMA_HASH].string_value if SCHEMA_HASH in config.parameters else ""
    expected = (facts.manifest or {}).get("schema_hash")
    if not found:
        yield Finding(
            "schema-hash-missing",
            "error",
            f"parameters has no {SCHEMA_HASH}",
            "nobody can tell whether frontend and model encode features alike; the runner refuses to load",
            f'parameters {{ key: "{SCHEMA_HASH}" value {{ string_value: "{expected or "..."}" }} }}',
        )
    elif expected is not None and found != expected:
        yield Finding(
            "schema-hash-differs",
            "error",
            f"{SCHEMA_HASH} is {found[:12]}…, the version's schema has {str(expected)[:12]}…",
            "the runner refuses to load",
            "exfm-export rollback to that version puts its own configuration back",
        )


def inputs(config: Any, facts: Facts) -> Iterator[Finding]:
    """The tensors that the schema implies."""
    tensors = (facts.manifest or {}).get("tensors")
    if not isinstance(tensors, list) or config.backend != "python" or facts.former is None:
        return
    expected = {}
    for tensor in tensors:
        shape = input_shape(tensor["name"], tensor["width"], facts.former)
        expected[tensor["name"]] = (_TYPES.get(tensor["dtype"]), *shape)
    if facts.former == FRONTEND:
        expected[OWNER] = (_TYPES["int64"], [-1], False)
    yield from _compare("input", config.input, expected)


def outputs(config: Any, facts: Facts) -> Iterator[Finding]:
    """A probability per candidate and task, and the count of unknown values."""
    tasks = (facts.manifest or {}).get("tasks")
    if not isinstance(tasks, list) or facts.former is None or _graph_of(facts):
        return
    expected = {key: (kind, dims, False) for key, kind, dims in output_shapes(len(tasks), facts.former)}
    yield from _compare("output", config.output, expected)


def graph(config: Any, facts: Facts) -> Iterator[Finding]:
    """The tensors of the graph, where one of Triton's own backends runs it."""
    said = _graph_of(facts)
    for kind, entries in (("input", config.input), ("output", config.output)) if said else ():
        tensors = said.get(f"{kind}s", ())
        yield from _compare(kind, entries, {t["name"]: (_TYPES.get(t["dtype"]), t["dims"], False) for t in tensors})


def files(config: Any, facts: Facts) -> Iterator[Finding]:
    """The file that the backend looks for."""
    wanted = config.default_model_filename or _FILES.get(config.backend, "")
    if wanted in made_later(facts.manifest or {}) and wanted not in facts.files and facts.files:
        yield Finding(
            "model-file-missing",
            "error",
            f"backend {config.backend!r} reads {wanted}, which was not made yet",
            "Triton cannot load the version",
            "sh trtexec.sh in the version's folder, in the container that will serve",
        )
    elif facts.files and wanted and wanted not in facts.files:
        yield Finding(
            "model-file-missing",
            "error",
            f"backend {config.backend!r} reads {wanted}, which the version does not hold",
            "Triton cannot load the version",
            f"a backend whose file is there: {', '.join(sorted(set(_FILES.values()) & facts.files)) or 'none is'}",
        )


def budget(_: Any, facts: Facts) -> Iterator[Finding]:
    """The measured latency against the budget."""
    buckets = (facts.manifest or {}).get("profile", {}).get("buckets", {})
    most = max((size for size in buckets if str(size).isdecimal()), key=int, default=None)
    p99_ms = buckets[most].get("p99_ms") if most is not None else None
    if p99_ms is not None and facts.budget_us is not None and p99_ms * 1e3 > facts.budget_us:
        yield Finding(
            "slower-than-budget",
            "advice",
            f"{most} candidates take {p99_ms:.1f} ms at p99, the budget is {facts.budget_us / 1e3:.0f} ms",
            "requests of that size are answered by a cheaper tier, or late",
            "fewer candidates, a faster engine, or a larger budget",
        )


def _graph_of(facts: Facts) -> Mapping[str, Any]:
    said = (facts.manifest or {}).get("graph")
    return said if isinstance(said, dict) else {}


def _compare(kind: str, entries: Any, expected: Mapping[str, tuple[Any, list[int], bool]]) -> Iterator[Finding]:
    """A finding for each tensor that is not as it was expected; outputs are never ragged."""
    found = {
        entry.name: (entry.data_type, list(entry.dims), kind == "input" and entry.allow_ragged_batch)
        for entry in entries
    }
    for key in sorted({*expected, *found}):
        if found.get(key) != expected.get(key):
            yield _tensor(kind, key, _shape(found.get(key)), _shape(expected.get(key)))


def _tensor(kind: str, key: str, found: str, expected: str) -> Finding:
    return Finding(
        "tensors",
        "error",
        f"{kind} {key!r} is {found}, the schema implies {expected}",
        "requests are refused, or Triton does not load the version",
        f"as {OWN_CONFIG} in the version's folder has it; exfm-export rollback puts that back",
    )


def _shape(entry: tuple[Any, list[int], bool] | None) -> str:
    if entry is None:
        return "not there"
    kind, dims, ragged = entry
    known = model_config_pb2.DataType.Name(kind) if kind in model_config_pb2.DataType.values() else str(kind)
    return f"{known} {dims}{' ragged' if ragged else ''}"


RULES = (name, pinned, schema_hash, inputs, outputs, graph, files, budget)
