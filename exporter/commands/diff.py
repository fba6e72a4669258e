"""`exfm-export diff`."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.commands.arguments import add_trust, make_parser, show
from exporter.difference import differ
from exporter.inventory import find_version
from exporter.signing import load_trusted

DESCRIPTION = """\
Say how two published versions differ: schema, weights, engine, quality, parity, latency, configuration, lineage, files.
Both are verified first. A and B are VERTICAL/NUMBER, VERTICAL/served, or a version's folder in whichever repository.
"""
EPILOG = """\
examples:
  exfm-export diff feed_click/3 feed_click/4 --repository model_repository
  exfm-export diff feed_click/3 feed_click/served --json | jq .quality

exit codes: 0 compared, whether they differ or not; 1 the repository could not be read; 2 no such version, or not a
sound one
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("diff", DESCRIPTION, EPILOG)
    made.add_argument("before", metavar="A")
    made.add_argument("after", metavar="B")
    add_trust(made)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    trusted = load_trusted(options.repository, options.trusted_keys)
    before, after = (find_version(options.repository, name) for name in (options.before, options.after))
    result = differ(before, after, trusted)
    show(options, result, "\n".join(_lines(result)))
    return 0


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['before']} -> {result['after']}"
    yield from _schema(result["schema"])
    for name in ("parameters", "engine", "parity"):
        old, new = result[name]
        yield f"{name}: {_text(old)}" + ("" if old == new else f" -> {_text(new)}")
    for figure, by_task in result["quality"].items():
        for task, pair in by_task.items():
            yield f"{figure} {task}: {_change(*pair)}"
    for size, figures in result["latency"].items():
        yield f"latency at {size}: " + ", ".join(f"{name} {_change(*pair)}" for name, pair in figures.items())
    for key, (old, new) in result["lineage"].items():
        yield f"lineage {key}: {_text(old)} -> {_text(new)}"
    for kind, names in result["files"].items():
        if names:
            yield f"files {kind}: {', '.join(names)}"
    yield from result["config"] or ["config: the same"]


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema["same"]:
        yield "schema: the same"
    for kind, names in schema["features"].items():
        if names:
            yield f"schema: features {kind}: {', '.join(names)}"
    for key in schema["entries"]:
        yield f"schema: {key} changed"


def _change(old: float | None, new: float | None) -> str:
    if old is None or new is None or old == new:
        return f"{_text(old)}" if old == new else f"{_text(old)} -> {_text(new)}"
    relative = f" ({new / old - 1:+.2%})" if old else ""
    return f"{old:.4g} -> {new:.4g}{relative}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_text(each)}" for name, each in value.items())
    return "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
