"""What lies under a folder, all of it or an error."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn


def everything_in(folder: Path) -> Iterator[Path]:
    """Files, folders and links under `folder` at any depth; no link is followed.

    Not `rglob`: it passes over a folder that may not be listed, and whatever lies there would go unseen.

    Raises:
        OSError: a folder can't be listed.
    """

    def refuse(error: OSError) -> NoReturn:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in (*folders, *files):
            yield Path(place, name)


def size_of(paths: Iterable[Path]) -> int:
    """Bytes that the plain files among these hold together."""
    return sum(bytes_in(path) for path in paths)


def bytes_in(path: Path) -> int:
    """Of a plain file; 0 for anything else."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
