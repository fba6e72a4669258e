"""`exfm-export keygen`."""

import argparse
import sys
from pathlib import Path

from exporter.commands.arguments import make_parser, show
from exporter.home import homes_in
from exporter.inventory import verify_repository
from exporter.signing import NO_KEYS, OWN_KEY, key_id, load_public, load_trusted, make_key, trust

DESCRIPTION = """\
Make an ed25519 signing key, and have a repository trust it.

FILE gets the private key, readable by you alone; FILE's name with the ending .pub.pem gets the public half. Without
FILE the key lies in REPOSITORY/.keys/signing.pem, where publishing finds it by itself: right for one machine that
trains and serves, not against somebody who can write the repository. With --trust, signatures by that key count from
now on: its public half goes to REPOSITORY/trusted_keys/. From the first trusted key on, versions that no trusted key
has signed are refused by publish, rollback and verify.
"""
EPILOG = """\
examples:
  exfm-export keygen --trust --repository model_repository           one machine, everything in the repository
  exfm-export keygen keys/release.pem                                a key for those who publish
  exfm-export keygen --trust-only keys/release.pub.pem               a repository learns to trust it

exit codes: 0 done; 2 the key is there already, or wrong arguments; 1 a file could not be written
"""


def parser() -> argparse.ArgumentParser:
    """See `exporter.command.Command`."""
    made = make_parser("keygen", DESCRIPTION, EPILOG)
    made.add_argument("file", type=Path, nargs="?", metavar="FILE", help="for the private key, PEM")
    how = made.add_mutually_exclusive_group()
    how.add_argument("--trust", action="store_true", help="have the repository trust the new key")
    how.add_argument("--trust-only", type=Path, metavar="PUBLIC", help="make no key, trust this one")
    return made


def run(options: argparse.Namespace) -> int:
    """See `exporter.command.Command`."""
    made: Path | None = None
    if options.trust_only is None:
        made = options.file or options.repository / OWN_KEY
        public = make_key(made).key.public_key()
    else:
        public = load_public(options.trust_only)
    if trusting := options.trust or options.trust_only is not None:
        trust(options.repository, public)
        _warn_of_refused(options.repository)
    result = {"key": key_id(public), "file": str(made) if made else None, "trusted": trusting}
    lines = [f"made {made}" if made else "", f"{options.repository} trusts it now" if trusting else ""]
    show(options, result, "; ".join([f"key {key_id(public)}", *filter(None, lines)]))
    return 0


def _warn_of_refused(repository: Path) -> None:
    if not homes_in(repository):
        return
    sound = {(each.vertical, each.version) for each in verify_repository(repository, NO_KEYS) if not each.problem}
    for verdict in verify_repository(repository, load_trusted(repository)):
        if verdict.problem and (verdict.vertical, verdict.version) in sound:
            sys.stderr.write(f"exfm-export: refused from now on: {verdict.problem}\n")
