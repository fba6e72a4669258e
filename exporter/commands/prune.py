"""`exfm-export prune`."""

import argparse
from collections.abc import Sequence

from exporter.commands.arguments import count, make_parser, show
from exporter.home import homes_in
from exporter.rollback import Pruned, prune

DESCRIPTION = """\
Remove old versions: of each vertical all but the newest N, the served one, and those that a server uses. Numbers are
never given again. Servers on this machine lock what they use. One on another machine, over a shared file system, may
not be seen, and could not start anew without the version that it has: keep as many as your slowest server may lag.
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
    pruned = {
        name: prune(options.repository, name, options.keep, dry_run=options.dry_run) for name in dict.fromkeys(names)
    }
    result = {
        "removed": {name: each.removed for name, each in pruned.items()},
        "in_use": {name: each.in_use for name, each in pruned.items()},
        "dry_run": options.dry_run,
    }
    lines = (_line(name, each, options.dry_run) for name, each in pruned.items())
    show(options, result, "\n".join(lines) or "nothing is published")
    return 0


def _line(name: str, pruned: Pruned, dry_run: bool) -> str:
    kept = f"; kept {_numbers(pruned.in_use)}, which a server still uses" if pruned.in_use else ""
    return f"{name}: {'would remove' if dry_run else 'removed'} {_numbers(pruned.removed) or 'nothing'}{kept}"


def _numbers(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
