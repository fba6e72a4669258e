"""`exfm-export verify`."""

import argparse

from exporter.commands.arguments import add_trust, make_parser, show
from exporter.home import find_home
from exporter.inventory import Verdict, verify_home, verify_repository
from exporter.progress import on_stderr
from exporter.signing import load_trusted

DESCRIPTION = """\
Read every file of every published version and say whether it is what was published: each file that the manifest lists
is there with its sha256, no other file is, the manifest is signed by a trusted key (where the repository trusts any),
and config.pbtxt is the one that was published with the version it names.
"""
EPILOG = """\
examples:
  exfm-export verify --repository model_repository
  exfm-export verify feed_click --trusted-keys /etc/exfm/keys --json

exit codes: 0 all is well; 1 something is not; 2 wrong arguments, or no such vertical
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("verify", DESCRIPTION, EPILOG)
    made.add_argument("verticals", nargs="*", metavar="VERTICAL", help="only these (all)")
    add_trust(made)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    trusted = load_trusted(options.repository, options.trusted_keys)
    if options.verticals:
        homes = [find_home(options.repository, name) for name in options.verticals]
        verdicts = [verdict for home in homes for verdict in verify_home(home, trusted, on_stderr)]
    else:
        verdicts = verify_repository(options.repository, trusted, on_stderr)
    ok = not any(verdict.problem for verdict in verdicts)
    result = {"ok": ok, "versions": [verdict.to_dict() for verdict in verdicts]}
    show(options, result, "\n".join(map(_line, verdicts)) or "nothing is published")
    return 0 if ok else 1


def _line(verdict: Verdict) -> str:
    what = "config.pbtxt" if verdict.version is None else f"version {verdict.version}"
    state = f"FAILS: {verdict.problem}" if verdict.problem else f"ok, {verdict.signature}"
    return f"{verdict.vertical} {what}{' (served)' if verdict.served else ''}: {state}"
