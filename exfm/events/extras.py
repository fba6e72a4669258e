"""Backends whose client library is an extra: loaded when a URL asks for them, with a word on how to install it."""

import importlib
from collections.abc import Callable
from typing import Any

from exfm.events.urls import UrlError

EXTRA = "scale"
"""The extra that holds the client libraries of all distributed engines."""


def lazily(scheme: str, module: str, name: str) -> Callable[..., Any]:
    """What makes a backend, importing it only then.

    Args:
        scheme: of the URL, for the message.
        module: of ours, that imports the client library.
        name: of the class in it.

    Returns:
        A callable that hands its arguments on; `UrlError` if the client library is not installed.
    """

    def make(*arguments: Any) -> Any:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package == module.partition(".")[0]:
                raise
            needed = f"{scheme}: needs the Python package {package!r}; pip install 'exfm-serving[{EXTRA}]'"
            raise UrlError(needed) from error
        return getattr(found, name)(*arguments)

    return make
