"""The cursor that all training runs of a stream shared before each had its own."""

import logging
from pathlib import Path

from exfm.data.cursor import Cursor

log = logging.getLogger(__name__)
FORMER = "train"


def look_for(own: Cursor, stream: Path, consumer: str | None, row: int | None) -> None:
    """Nobody moves it any more, and retention waits for it: make it this run's own if it was, else say so.

    Args:
        own: the run's cursor, not moved yet by this process.
        stream: folder.
        consumer: the name that the run was given, if it was: then it has chosen.
        row: where the run's `training.pt` stopped; only a cursor that is right there was moved by this run.
    """
    former = Cursor(stream, FORMER)
    if consumer or not former.there:
        return
    if former.row == row and not own.there:
        own.take_over(former)
        log.warning("%s: the cursor %r of an earlier version is now %r", stream, FORMER, own.path.name)
    else:
        said = "%s: retention waits at row %d for the cursor %r of an earlier version: delete %s unless it is in use"
        log.warning(said, stream, former.row, FORMER, former.path)
