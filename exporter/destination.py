"""Where a version goes: the repository, the keys that count there, and the version that it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exfm.models.checkpoint import Checkpoint
from exporter.compare import Comparison, QualityGate, compare
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

    def compare_again(self, checkpoint: Checkpoint, before: Comparison, watch: Watch = unwatched) -> None:
        """As `compare`, if another version is served now than `before`."""
        if not before.excuse and served_version(self.home(checkpoint)) != before.version:
            self.compare(checkpoint, watch)

    def warnings(self, comparison: Comparison, say: Callable[[str], None]) -> list[str]:
        """What whoever publishes here must be told, and is."""
        found = []
        if self.signer is None:
            found.append("UNSIGNED: a change by anybody who can write the repository goes unnoticed; see keygen --help")
        elif not self.trusted.keys:
            found.append("signed, but the repository trusts no key yet, so nobody checks it; see keygen --help")
        if comparison.excuse:
            found.append(f"PUBLISHED ALL THE SAME: {comparison.excuse}")
        for warning in found:
            say(warning)
        return found
