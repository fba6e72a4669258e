"""What a repository holds, version by version."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter.compare import figure_of
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import find_home, homes_in, served_version, versions_in
from exporter.integrity import Version, check_config, check_version, read_version
from exporter.signing import TrustedKeys

TYPICAL = "200"
"""Candidates of a typical request, for the one figure of latency that a list has room for."""
SERVED = "served"


@dataclass(frozen=True)
class Verdict:
    """Whether a version, or a vertical's config.pbtxt, is what was published.

    Attributes:
        vertical: whose.
        version: which; None: the vertical's configuration.
        served: whether config.pbtxt names it.
        signature: who vouches for it; "" if that is the problem.
        problem: what is wrong; "" if nothing is.
    """

    vertical: str
    version: int | None
    served: bool
    signature: str
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "ok": not self.problem}


def verify_repository(repository: Path, trusted: TrustedKeys) -> list[Verdict]:
    """Read every file of every version; `OSError` if the repository cannot be read."""
    return [verdict for home in homes_in(repository) for verdict in verify_home(home, trusted)]


def verify_home(home: Path, trusted: TrustedKeys) -> list[Verdict]:
    """A verdict on each version of one vertical, and one more if its config.pbtxt is not sound."""
    served, problem = _served(home)
    verdicts = []
    checked: dict[int, Version] = {}
    for number in versions_in(home):
        try:
            checked[number] = check_version(home / str(number), trusted)
            verdict = Verdict(home.name, number, number == served, checked[number].signature, "")
        except VersionError as error:
            verdict = Verdict(home.name, number, number == served, "", str(error))
        verdicts.append(verdict)
    if served is not None and served not in versions_in(home):
        problem = f"{home}: config.pbtxt names version {served}, which is not there"
    elif served in checked:
        problem = _problem_of_config(home, checked[served])
    if problem:
        verdicts.append(Verdict(home.name, None, True, "", problem))
    return verdicts


def list_versions(repository: Path, trusted: TrustedKeys) -> list[dict[str, Any]]:
    """A row for each version: what its manifest says, its signature checked; the other files are not read."""
    return [_row(home, number, trusted) for home in homes_in(repository) for number in versions_in(home)]


def find_version(repository: Path, name: str) -> Path:
    """The folder of a version, by `VERTICAL/NUMBER`, `VERTICAL/served`, or its path.

    Raises:
        ExportRefusedError: there is none.
    """
    if Path(name).is_dir() and Path(name).name.isdecimal():
        return Path(name).absolute()
    vertical, _, which = name.rpartition("/")
    home = find_home(repository, vertical or which)
    number = str(served_version(home)) if which == SERVED or not vertical else which
    if not number.isdecimal() or int(number) not in versions_in(home):
        known = ", ".join(map(str, versions_in(home)))
        raise ExportRefusedError(f"{home}: no version {number}; there are {known or 'none'}")
    return home / number


def _served(home: Path) -> tuple[int | None, str]:
    """None without a config.pbtxt: a first publication that was cut short serves nothing, and nothing is wrong."""
    try:
        return served_version(home), ""
    except VersionError as error:
        return None, str(error)


def _problem_of_config(home: Path, served: Version) -> str:
    try:
        check_config(home, served)
    except VersionError as error:
        return str(error)
    return ""


def _row(home: Path, number: int, trusted: TrustedKeys) -> dict[str, Any]:
    row: dict[str, Any] = {"vertical": home.name, "version": number, "served": number == _served(home)[0]}
    try:
        version = read_version(home / str(number), trusted)
    except VersionError as error:
        return {**row, "signature": "refused", "problem": str(error)}
    manifest = version.manifest
    tasks: Sequence[str] = manifest.get("tasks", ())
    quality = manifest.get("quality", {})
    latency = manifest.get("profile", {}).get("buckets", {}).get(TYPICAL, {})
    return {
        **row,
        "created_utc": manifest.get("created_utc"),
        "ne": figure_of(quality, tasks, "ne"),
        "auc": figure_of(quality, tasks, "auc"),
        "engine": manifest.get("engine"),
        f"p50_ms_at_{TYPICAL}": latency.get("p50_ms"),
        "signature": version.signature,
        "problem": "",
    }
