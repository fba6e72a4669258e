"""Where a version goes: the repository, the keys that count there, and the version that it is compared with."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from exfm.models.checkpoint import Checkpoint
from exporter.compare import Comparison, QualityGate, compare
from exporter.errors import VersionError
from exporter.home import served_version
from exporter.options import ExportOptions
from exporter.progress import Watch, unwatched
from exporter.publish import check_signer
from exporter.signing import Signer, TrustedKeys, load_all_trusted, load_signer


@dataclass(frozen=True)
class Destination:
    """A repository that takes what `signer` signs.

    Attributes:
        repository: its folder.
        trusted_keys: folder of the keys to trust besides its own.
        signer: who vouches for what is published here; None: nobody.
        gate: how much worse than the served version a new one may be.
        suffix: of a model's name there, after its vertical's.
    """

    repository: Path
    trusted_keys: Path | None
    signer: Signer | None
    gate: QualityGate
    suffix: str = ""

    @classmethod
    def open(cls, repository: Path, options: ExportOptions, suffix: str = "") -> Self:
        """Find the keys; `ExportRefusedError` if the repository would not take the signature."""
        signer = load_signer(options.signing_key, repository)
        made = cls(repository, options.trusted_keys, signer, options.gate, suffix)
        check_signer(made.trusted, signer)
        return made

    @property
    def trusted(self) -> TrustedKeys:
        """The keys that count, as they are now: somebody may have the repository trust one meanwhile."""
        return load_all_trusted(self.repository, self.trusted_keys)

    def home(self, checkpoint: Checkpoint) -> Path:
        """Where the versions of its model lie."""
        return self.repository / f"{checkpoint.vertical}{self.suffix}"

    def compare(self, checkpoint: Checkpoint, watch: Watch = unwatched) -> Comparison:
        """See `exporter.compare.compare`."""
        home = self.home(checkpoint)
        return compare(checkpoint.quality, checkpoint.tasks, home, self.trusted, self.gate, watch=watch)

    def warnings(self) -> list[str]:
        """What whoever publishes here must be told, whatever it is."""
        if self.signer is None:
            return ["UNSIGNED: a change by anybody who can write the repository goes unnoticed; see keygen --help"]
        if not self.trusted.keys:
            return ["signed, but the repository trusts no key yet, so nobody checks it; see keygen --help"]
        return []


@dataclass
class Judgement:
    """A new version beside the one that is served, which may become another one until the new one is published.

    Attributes:
        destination: where it goes.
        checkpoint: what it is made of.
        watch: shows how much of the served version is checked.
        say: gets what whoever publishes it must be told.
        comparison: with the version that was served when it was last looked at.
        warnings: what whoever publishes it must know.
    """

    destination: Destination
    checkpoint: Checkpoint
    watch: Watch
    say: Callable[[str], None]
    comparison: Comparison = field(init=False)
    warnings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Compare; raises as `exporter.compare.compare` does."""
        self.comparison = self.destination.compare(self.checkpoint, self.watch)
        self.warnings = [*self.destination.warnings(), *self._excuse()]
        for warning in self.warnings:
            self.say(warning)

    def again(self) -> None:
        """Compare anew if another version is served by now; the caller holds the repository's lock. Raises likewise."""
        before = self.comparison
        with suppress(VersionError):  # it does not tell what is served, and `compare` says whether that matters
            if served_version(self.destination.home(self.checkpoint)) == before.version:
                return
        old = self._excuse()
        self.comparison = self.destination.compare(self.checkpoint, self.watch)
        self.warnings = [*(warning for warning in self.warnings if warning not in old), *self._excuse()]
        if self.comparison.version not in (None, before.version):
            self.say(f"served by now: {self.comparison.version}; compared with that one")
        for excuse in self._excuse():
            self.say(excuse)

    def _excuse(self) -> list[str]:
        return [f"PUBLISHED ALL THE SAME: {self.comparison.excuse}"] if self.comparison.excuse else []

    @property
    def lineage(self) -> dict[str, Any]:
        """The manifest's entry: what it was made from, and what it was compared with."""
        return {"lineage": {**self.checkpoint.lineage, "compared_with": self.comparison.to_dict()}}
