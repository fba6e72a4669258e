"""`exfm-export lint`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exporter.commands.arguments import add_trust, make_parser, show
from exporter.errors import ExportRefusedError
from exporter.home import CONFIG_BYTES, find_home
from exporter.lint.check import lint_bytes, lint_home, lint_repository
from exporter.lint.facts import Facts, Host, this_host
from exporter.lint.finding import Finding
from exporter.signing import load_trusted

DESCRIPTION = """\
Explain what is wrong with the config.pbtxt of published models: settings that make Triton miss budgets, settings that
do not fit the version, and any change made by hand since it was published. Each finding says what is there, what
happens because of it, and how to mend it.

  error     the model will not load, or will not serve what was published
  warning   requests will miss their budgets
  advice    could be better; does not count for the exit code
"""
EPILOG = """\
examples:
  exfm-export lint --repository model_repository
  exfm-export lint feed_click --json | jq '.findings[] | .rule'
  exfm-export lint --file config.pbtxt --gpus 1                 any configuration, published or not

exit codes: 0 no error and no warning; 1 some; 2 wrong arguments, or no such vertical
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("lint", DESCRIPTION, EPILOG)
    made.add_argument("verticals", nargs="*", metavar="VERTICAL", help="only these (all)")
    made.add_argument("--file", type=Path, metavar="FILE", help="this configuration, by its own contents alone")
    made.add_argument("--gpus", type=int, metavar="N", help="GPUs of the machine that serves (those of this one)")
    made.add_argument("--cores", type=int, metavar="N", help="cores of the machine that serves (those of this one)")
    add_trust(made)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    host = this_host()
    host = replace(host, gpus=host.gpus if options.gpus is None else options.gpus)
    found = _find(options, replace(host, cores=options.cores or host.cores))
    counted = [finding for findings in found.values() for finding in findings if finding.severity != "advice"]
    plain = [{"vertical": name, **finding.to_dict()} for name, findings in found.items() for finding in findings]
    text = "\n".join(_paragraph(name, findings) for name, findings in found.items())
    show(options, {"ok": not counted, "findings": plain}, text or "nothing is published")
    return 1 if counted else 0


def _find(options: argparse.Namespace, host: Host) -> dict[str, list[Finding]]:
    if options.file is not None:
        if not options.file.is_file():
            raise ExportRefusedError(f"{options.file}: no such file")
        with options.file.open("rb") as handle:
            content = handle.read(CONFIG_BYTES + 1)
        return {str(options.file): _alone(content, options.file, host)}
    trusted = load_trusted(options.repository, options.trusted_keys)
    if options.verticals:
        homes = (find_home(options.repository, name) for name in options.verticals)
        return {home.name: lint_home(home, trusted, host) for home in homes}
    return lint_repository(options.repository, trusted, host)


def _alone(content: bytes, path: Path, host: Host) -> list[Finding]:
    """Rules that need the model's folder are not asked."""
    findings = lint_bytes(content, Facts(path.absolute().parent.name, host, {}))
    return [finding for finding in findings if finding.rule != "name"]


def _paragraph(name: str, findings: Sequence[Finding]) -> str:
    lines = [f"{name}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}"]
    for finding in findings:
        lines.append(f"  {finding.severity} [{finding.rule}] {finding.what}")
        lines.append(f"      what happens: {finding.effect}")
        lines.append(f"      how to mend:  {finding.mend}")
    return "\n".join(lines)
