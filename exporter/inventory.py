"""What a repository holds, version by version."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter.compare import figure_of
from exporter.durable import ASIDE
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import CONFIG, find_home, homes_in, read_config, served_version, version_named, versions_in
from exporter.integrity import Version, check_config, check_version, read_version
from exporter.progress import Watch, unwatched
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


def verify_repository(repository: Path, trusted: TrustedKeys, watch: Watch = unwatched) -> list[Verdict]:
    """Read every file of every version; `OSError` if the repository cannot be read."""
    return [verdict for home in homes_in(repository) for verdict in verify_home(home, trusted, watch)]


def verify_home(home: Path, trusted: TrustedKeys, watch: Watch = unwatched) -> list[Verdict]:
    """A verdict on each version of one vertical, and one more if its config.pbtxt is not sound.

    A version that is pruned meanwhile gets none. If another one is published meanwhile and what was served is then not
    well, for it may have been pruned, all is read anew.
    """
    while True:
        content = read_config(home)
        verdicts = _verdicts(home, content, trusted, watch)
        if not any(verdict.problem and verdict.served for verdict in verdicts) or content == read_config(home):
            return verdicts


def _verdicts(home: Path, content: bytes | None, trusted: TrustedKeys, watch: Watch) -> list[Verdict]:
    served, problem = _named(home, content)
    verdicts = []
    checked: dict[int, Version] = {}
    for number in versions_in(home):
        try:
            checked[number] = check_version(home / str(number), trusted, watch)
            verdicts.append(Verdict(home.name, number, number == served, checked[number].signature, ""))
        except VersionError as error:
            if (home / str(number)).exists():
                verdicts.append(Verdict(home.name, number, number == served, "", str(error)))
    if served in checked and content is not None:
        problem = _problem_of_config(content, checked[served])
    elif served is not None and served not in versions_in(home):
        problem = f"{home}: config.pbtxt names version {served}, which is not there"
    if problem:
        verdicts.append(Verdict(home.name, None, True, "", problem))
    return verdicts


def list_versions(repository: Path, trusted: TrustedKeys) -> list[dict[str, Any]]:
    """A row for each version: what its manifest says, its signature checked; the other files are not read."""
    rows = []
    for home in homes_in(repository):
        served, _ = _named(home, read_config(home))
        rows += [_row(home, number, served, trusted) for number in versions_in(home)]
    # One that was pruned meanwhile is none that is not well.
    return [row for row in rows if not row["problem"] or (repository / row["vertical"] / str(row["version"])).exists()]


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


def _named(home: Path, content: bytes | None) -> tuple[int | None, str]:
    """The version that these bytes of config.pbtxt name, or None and what is wrong.

    Nothing is wrong with a first publication that was cut short: its config.pbtxt still lies aside.
    """
    if content is None:
        lost = not (home / f"{ASIDE}{CONFIG}").exists()
        return None, f"{home}: has versions and no {CONFIG}, so none of them is served" if lost else ""
    try:
        return version_named(home, content), ""
    except VersionError as error:
        return None, str(error)


def _problem_of_config(content: bytes, served: Version) -> str:
    try:
        check_config(content, served)
    except VersionError as error:
        return str(error)
    return ""


def _row(home: Path, number: int, served: int | None, trusted: TrustedKeys) -> dict[str, Any]:
    row: dict[str, Any] = {"vertical": home.name, "version": number, "served": number == served}
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
