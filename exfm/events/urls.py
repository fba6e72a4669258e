"""Backends by URL: `sqlite:PATH`, `lmdb:PATH`, `local:2`; one URL per role is all that a change of engine takes."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UrlError(ValueError):
    """A backend's URL has no scheme that this role knows, or nothing behind it; the message lists the known ones."""


def open_url(url: str, role: str, backends: Mapping[str, Callable[[str], T]]) -> T:
    """What the backend of the URL's scheme makes of the rest of the URL.

    Args:
        url: `scheme:rest`; a rest that begins with `//` is handed on with it.
        role: what the URL is for, in the words of the command line.
        backends: by scheme.

    Raises:
        UrlError: see there.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in backends or not rest:
        known = ", ".join(f"{name}:..." for name in sorted(backends))
        raise UrlError(f"{role}: {masked(url)!r} is none of {known}")
    return backends[scheme](rest)


def masked(url: str) -> str:
    """A URL as it may be shown: no more than its scheme, where a password may be in what is behind it."""
    if not re.search(r"[@?]", url):
        return url
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(//)?", url)
    return f"{scheme[0] if scheme else ''}..."
