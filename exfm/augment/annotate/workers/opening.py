"""Workers by URL."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from exfm.augment.annotate.workers.count import parse_count
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.annotate.workers.local import LocalWorkers
from exfm.augment.annotate.workers.protocol import Workers
from exfm.augment.annotate.workers.runnable import LOAD
from exfm.events.extras import lazily
from exfm.events.urls import UrlError, open_url


def _local(rest: str, folder: Path) -> Workers:
    try:
        count, give_way_ms = parse_count(rest, "give_way_ms", 0.0)
    except ValueError:
        raise UrlError(f"workers: {f'local:{rest}'!r} is not local:N or local:N?give_way_ms=T") from None
    if give_way_ms and not (count and Path(LOAD).exists()):
        raise UrlError("workers: give_way_ms needs worker processes, local:1 or more, and Linux's /proc")
    return LocalWorkers(folder, count, give_way_ms / 1000) if count else InlineWorkers(folder)


BACKENDS: dict[str, Callable[[str, Path], Workers]] = {
    "local": _local,
    "ranks": lazily("ranks", "exfm.augment.annotate.workers.ranks.workers", "open_ranks"),
    "ray": lazily("ray", "exfm.augment.annotate.workers.ray_workers", "open_ray"),
}


def open_workers(url: str, snapshots: Path) -> Workers:
    """The workers behind a URL.

    `local:N[?give_way_ms=T]`, 0 meaning this process, `ranks:N[?wait_s=S]`, `ray:N` or `ray://host:port/N`.

    Raises:
        UrlError: the scheme is unknown, its library is not installed, or the rest of the URL is wrong.
        WorkersUnavailableError: they don't start now.
    """
    return open_url(url, "workers", {name: partial(_bind, make, snapshots) for name, make in BACKENDS.items()})


def _bind(make: Callable[[str, Path], Workers], snapshots: Path, rest: str) -> Workers:
    return make(rest, snapshots)
