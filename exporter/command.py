"""The command `exfm-export`: publishes students, and looks after what was published."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Protocol

from exporter.errors import ExportRefusedError

DESCRIPTION = """\
Publish trained students as versions of a Triton model repository, and look after them.

  exfm-export CHECKPOINT --repository DIR      publish; the same as `exfm-export publish CHECKPOINT ...`
  exfm-export --model FILE.py:FACTORY ...      publish a model of your own; see `exfm-export publish --help`
  exfm-export COMMAND ...                      one of the commands below, each with its own --help
"""
COMMANDS = {
    "publish": "make a student, or a model of your own, the next version of its vertical",
    "vendor": "publish the whole graph for Triton's own ONNX Runtime or TensorRT backend, in a repository of its own",
    "list": "what is published: versions, quality, latency, signatures",
    "verify": "whether published versions are whole, unchanged and signed",
    "diff": "how two versions differ",
    "rollback": "serve an older version again",
    "prune": "remove old versions",
    "lint": "what is wrong with a configuration, and how to mend it",
    "keygen": "make a signing key; have a repository trust it",
}
CHANGING = ("publish", "vendor", "rollback", "prune")
EPILOG = """\
a checkpoint whose file is named like a command is published with `exfm-export publish ./list`

exit codes: 0 done and well; 1 something published is not well, or the repository could not be read or written;
2 refused, nothing was changed, or an argument is wrong

with --json a refusal or a failure is an object, too: ok (false), exit_code, error
"""


class Command(Protocol):
    """A module of `exporter.commands`."""

    def parser(self) -> argparse.ArgumentParser:
        """Its arguments and its help."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit code. `ExportRefusedError` and `OSError` become one line and 2 or 1."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        _overview().parse_args(words)
    name = words.pop(0) if words[0] in COMMANDS else "publish"
    # Only what publishes needs torch, which takes seconds to import.
    command: Command = importlib.import_module(f"exporter.commands.{name}")
    options = command.parser().parse_args(words)
    try:
        return command.run(options)
    except ExportRefusedError as error:
        return _say(options, _first_line(error), 2)
    except OSError as error:
        advice = "; exfm-export list says what is served" if name in CHANGING else ""
        return _say(options, f"{options.repository}: {_first_line(error)}{advice}", 1)


def _say(options: argparse.Namespace, text: str, code: int) -> int:
    """For people, and with --json for machines, too."""
    sys.stderr.write(f"exfm-export: {text}\n")
    if options.json:
        sys.stdout.write(json.dumps({"ok": False, "exit_code": code, "error": text}) + "\n")
    return code


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _overview() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="exfm-export",
        usage="exfm-export CHECKPOINT | --model FILE.py:FACTORY ... [--repository DIR] ... | exfm-export COMMAND ...",
        description=f"{DESCRIPTION}\ncommands:\n{commands}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="COMMAND | CHECKPOINT", help="and its own arguments")
    return parser


if __name__ == "__main__":
    sys.exit(main())
