"""Takes up refreshed priors while serving: a file beside each vertical's versions, looked at once a second."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from exfm.features.prior_file import NAME, PriorFileError, read_prior
from serving.catalog import Vertical
from serving.ladder.live import Edition, LivePrior
from serving.ladder.prior import Prior

log = logging.getLogger(__name__)

POLL_S = 1.0


class PriorRefresh:
    """Watches one file per vertical. The files are read on another thread, so that no request waits for a disk."""

    def __init__(
        self, repository: Path, verticals: Mapping[str, Vertical], live: Mapping[str, LivePrior], poll_s: float = POLL_S
    ) -> None:
        """Prepare.

        Args:
            repository: the model repository; a vertical's file is `<vertical>/prior.npz` in it.
            verticals: by name.
            live: what to renew, by vertical.
            poll_s: between two looks, seconds.
        """
        self._files = {name: _File(repository / name / NAME, vertical) for name, vertical in verticals.items()}
        self._live = dict(live)
        self._poll_s = poll_s

    async def run(self) -> None:
        """Look for ever; ends by cancellation."""
        while True:
            await self.round()
            await asyncio.sleep(self._poll_s)

    async def round(self) -> None:
        """Look once at every file, and renew what has a new one."""
        for name, file in self._files.items():
            live = self._live[name]
            try:
                edition = await asyncio.to_thread(file.look)
            except PriorFileError as error:
                live.refuse()
                log.warning("%s: a refreshed prior is refused: %s", name, error)
            except Exception:
                # Whatever a file may do to its readers, the next one is looked at as well.
                live.refuse()
                log.exception("%s: a refreshed prior could not be looked at", name)
            else:
                if edition:
                    live.renew(edition)
                    log.info("%s: prior %d for %d ads", name, edition.version, len(edition.prior.ads))


class _File:
    """One vertical's file; each state of it is read once."""

    def __init__(self, path: Path, vertical: Vertical) -> None:
        self._path = path
        self._vertical = vertical
        self._seen: tuple[int, ...] = ()

    def look(self) -> Edition | None:
        """What is new there, ready for look-ups; None if nothing is.

        Raises:
            PriorFileError: something is new, and no prior that this vertical can use.
        """
        try:
            found = self._path.stat()
        except OSError:
            return None
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if state == self._seen:
            return None
        self._seen = state
        return self._read()

    def _read(self) -> Edition:
        file, vertical = read_prior(self._path), self._vertical
        found, wanted = (file.vertical, file.tasks), (vertical.name, vertical.tasks)
        if found != wanted:
            raise PriorFileError(f"{self._path}: is for {found[0]!r} and tasks {found[1]}, not {wanted}")
        if file.learned_until_ms < vertical.learned_until_ms:
            raise PriorFileError(
                f"{self._path}: has learned until {file.learned_until_ms} ms, the published version's own prior until "
                f"{vertical.learned_until_ms} ms"
            )
        if len(file.default) != len(vertical.tasks):
            raise PriorFileError(f"{self._path}: is for {len(file.default)} outcomes, not {len(vertical.tasks)}")
        try:
            prior = Prior(file.ad, file.probability, file.default)
        except ValueError as error:
            raise PriorFileError(f"{self._path}: {error}") from error
        return Edition(prior, file.version, file.written_ms / 1e3)
