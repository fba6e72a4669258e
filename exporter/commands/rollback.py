"""`exfm-export rollback`."""

import argparse

from exporter.commands.arguments import add_trust, count, make_parser, show
from exporter.progress import on_stderr
from exporter.rollback import rollback

DESCRIPTION = """\
Serve an older version again: every file of it is checked, then config.pbtxt is replaced, in one step, by the one that
was published with it. A server that runs goes on with what it has loaded until it is told to load, or started anew. A
damaged version, or one without a trusted signature where the repository trusts keys, is refused.

Unless --to says which, it is the version that the served one replaced when it was published. That passes over versions
in between, which were rolled back themselves.
"""
EPILOG = """\
examples:
  exfm-export rollback feed_click --repository model_repository        to what the served one replaced
  exfm-export rollback feed_click --to 12                              to any that is still there, newer ones too

exit codes: 0 done; 2 refused, nothing was changed, or wrong arguments; 1 the repository could not be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("rollback", DESCRIPTION, EPILOG)
    made.add_argument("vertical", metavar="VERTICAL")
    made.add_argument("--to", type=count, metavar="VERSION", help="the version to serve (what the served one replaced)")
    add_trust(made, changing=True)
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    before, now = rollback(options.repository, options.vertical, options.to, options.trusted_keys, on_stderr)
    result = {"vertical": options.vertical, "before": before, "served": now}
    show(options, result, f"{options.vertical}: version {now} is served now, after {before or 'nothing sound'}")
    return 0
