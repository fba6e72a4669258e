"""`exfm-export list`."""

import argparse
from collections.abc import Mapping
from typing import Any

from exporter.commands.arguments import add_trust, make_parser, show
from exporter.inventory import TYPICAL, list_versions
from exporter.signing import load_trusted

DESCRIPTION = """\
List what is published: each version, whether config.pbtxt names it (*), when it was made, NE and AUC by task, the
engine, the median latency in process of one request with 200 candidates, and who vouches for it:

  signed       by a trusted key
  unverified   by some key, but the repository trusts none
  unsigned     by nobody, and the repository trusts no key
  refused      the manifest or its signature is not sound

Manifests and signatures are checked, the other files are not: see `exfm-export verify`.
"""
EPILOG = """\
examples:
  exfm-export list --repository model_repository
  exfm-export list --json | jq '.versions[] | select(.served)'

exit codes: 0 listed; 1 the repository could not be read; 2 wrong arguments
"""
_HEAD = ("vertical", "version", "created", "NE", "AUC", "engine", f"p50 ms at {TYPICAL}", "signature")


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("list", DESCRIPTION, EPILOG)
    add_trust(made)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    versions = list_versions(options.repository, load_trusted(options.repository, options.trusted_keys))
    show(options, {"versions": versions}, _table([_HEAD, *(_cells(version) for version in versions)]))
    return 0


def _cells(version: Mapping[str, Any]) -> tuple[str, ...]:
    if version["problem"]:
        return version["vertical"], _number(version), version["problem"], *[""] * 4, version["signature"]
    latency = version[f"p50_ms_at_{TYPICAL}"]
    return (
        version["vertical"],
        _number(version),
        str(version["created_utc"])[:19],
        _figures(version["ne"]),
        _figures(version["auc"]),
        str(version["engine"] or "-"),
        "-" if latency is None else f"{latency:.2f}",
        version["signature"],
    )


def _number(version: Mapping[str, Any]) -> str:
    return f"{version['version']}{'*' if version['served'] else ''}"


def _figures(by_task: Mapping[str, float]) -> str:
    return " ".join(f"{value:.4f}" for value in by_task.values()) or "-"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
