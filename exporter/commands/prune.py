"""`exfm-export prune`."""

import argparse

from exporter.commands.arguments import count, make_parser, show
from exporter.home import homes_in
from exporter.rollback import prune

DESCRIPTION = """\
Remove old versions: of each vertical all but the newest N and the served one. Numbers are never given again. A server
that still runs a removed version keeps it until it is started anew, so keep as many as your slowest server may lag.
"""
EPILOG = """\
examples:
  exfm-export prune --keep 5 --repository model_repository
  exfm-export prune feed_click --keep 2 --dry-run --json

exit codes: 0 done; 2 refused or wrong arguments; 1 the repository could not be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("prune", DESCRIPTION, EPILOG)
    made.add_argument("verticals", nargs="*", metavar="VERTICAL", help="only these (all)")
    made.add_argument("--keep", type=count, required=True, metavar="N", help="how many of the newest to keep")
    made.add_argument("--dry-run", action="store_true", help="only say what would go")
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    names = options.verticals or [home.name for home in homes_in(options.repository)]
    removed = {
        name: prune(options.repository, name, options.keep, dry_run=options.dry_run) for name in dict.fromkeys(names)
    }
    verb = "would remove" if options.dry_run else "removed"
    lines = (f"{name}: {verb} {', '.join(map(str, gone)) or 'nothing'}" for name, gone in removed.items())
    show(options, {"removed": removed, "dry_run": options.dry_run}, "\n".join(lines) or "nothing is published")
    return 0
