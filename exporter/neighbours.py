"""What lies beside a model: graphs for Triton's own backends and models for the frontend don't share a repository.

The frontend holds every published folder there to its manifest, and does not start over a plan that TensorRT has
written; the Triton beside it has none of these backends.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from exporter.configure import SCHEMA_HASH
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import CONFIG, MARK, parse_config, read_config
from exporter.vendor import BACKENDS


def refuse_served(repository: Path) -> None:
    """Refuse a folder that belongs to a repository with models for the frontend, or is one.

    Raises:
        ExportRefusedError: naming such a model.
    """
    whole = repository.resolve()
    for place in (whole, *whole.parents):
        _refuse(
            (place, *_homes(place)),
            _is_served,
            f"{repository}: {{}} is a model that the frontend serves; a graph for Triton's own backends goes into a "
            "repository of its own, say --repository vendor_repository",
        )


def refuse_graphs(repository: Path) -> None:
    """Refuse a repository that has graphs for Triton's own backends, published by `exfm-export vendor`.

    Raises:
        ExportRefusedError: naming such a graph.
    """
    _refuse(
        _homes(repository),
        _is_graph,
        f"{repository}: {{}} is a graph for Triton's own backends; a model that the frontend serves goes into a "
        "repository of its own",
    )


def _refuse(homes: Iterable[Path], forbidden: Callable[[Path], bool], message: str) -> None:
    for home in homes:
        if forbidden(home):
            raise ExportRefusedError(message.format(home))


def _homes(place: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(place) if os.path.isfile(Path(entry.path) / CONFIG)]
    except (PermissionError, FileNotFoundError, NotADirectoryError):  # of somebody else, or not there yet
        return []


def _is_served(home: Path) -> bool:
    try:
        content = read_config(home)
        if content is None:
            return False
        config = parse_config(content)
    except (OSError, VersionError):
        return (home / MARK).exists()  # one of ours that can't be read now
    return config.backend == "python" and SCHEMA_HASH in config.parameters


def _is_graph(home: Path) -> bool:
    try:
        content = read_config(home)
        return content is not None and (home / MARK).exists() and parse_config(content).backend in BACKENDS
    except (OSError, VersionError):
        return False
