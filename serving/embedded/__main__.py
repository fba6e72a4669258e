"""`python -m serving.embedded`: the embedded Triton by itself, for frontends of several machines to share."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from serving.catalog import Catalog
from serving.console import say, tell
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.embedded.process import TritonOptions
from serving.errors import RepositoryError
from serving.repository import load_catalog
from serving.serve import own_triton, stop_signals

STOP_S = 10.0
"""For the calls of frontends that are still there."""
DESCRIPTION = "Run the embedded Triton with the models that exfm-export published, and start it again should it end."
EPILOG = """
Triton asks nobody who he is: listen on an inside address. The vendor's container does the same job on GPUs.

example:
  python -m serving.embedded --model-repository model_repository --listen 10.0.0.5:8001
      then, elsewhere: exfm-serve --model-repository model_repository --triton 10.0.0.5:8001 --share 1/3

exit codes: 0 stopped as asked, 1 failed to start, 2 bad usage or bad model repository
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(load_catalog(asked.model_repository, asked.trusted_keys), asked))
    except RepositoryError as error:
        say(f"serving.embedded: {error}")
        return 2
    except (EnvironmentUnusableError, TritonStartError) as error:
        say(f"serving.embedded: {error}")
        return 1
    return 0


async def _run(catalog: Catalog, asked: argparse.Namespace) -> None:
    stop, (host, port) = stop_signals(), asked.listen
    options = TritonOptions(host=host, port=port, stop_s=STOP_S)
    async with own_triton(catalog, asked.model_repository, asked.log, options, stop) as backend:
        if stop.is_set():
            return
        (address,) = backend.addresses
        versions = {name: model.version for name, model in catalog.models.items()}
        tell(f"Triton on {address}", {"event": "ready", "triton": address, "models": versions}, asked.json)
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m serving.embedded",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model-repository", type=Path, required=True, metavar="DIR", help="what exfm-export writes")
    keys = "public keys (*.pem) whose versions are taken, instead of the repository's own trusted_keys/"
    add("--trusted-keys", type=Path, metavar="DIR", help=keys)
    add("--listen", type=_listen, default="127.0.0.1:8001", metavar="IP:PORT", help="for gRPC (127.0.0.1:8001)")
    add("--log", type=Path, metavar="FILE", help="where Triton's output goes (a temporary file)")
    add("--json", action="store_true", help="say readiness as one line of JSON on stdout")
    return parser


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        if not 0 <= int(port) <= 65535:
            raise ValueError(port)
        return str(IPv4Address(host)), int(port)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not IP:PORT") from None


if __name__ == "__main__":
    sys.exit(main())
