"""A vertical's home in the model repository: `config.pbtxt`, and beside it the numbered versions."""

import re
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exporter.errors import ExportRefusedError, VersionError

CONFIG = "config.pbtxt"
OWN_CONFIG = "published.pbtxt"
"""In a version's folder: its own config.pbtxt, under a name by which nobody takes the folder for a model's home."""
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
TRUSTED_KEYS = "trusted_keys"
MARK = ".last_version"
"""The file with the highest number ever given, so that none is given twice, also after the newest was removed."""
CONFIG_BYTES = 1 << 20
"""A longer configuration is not read: nobody has written it."""
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


def homes_in(repository: Path) -> list[Path]:
    """The homes in a repository, by name; `OSError` if it cannot be read."""
    folders = (path for path in sorted(repository.iterdir()) if path.is_dir() and not path.name.startswith("."))
    return [path for path in folders if (path / CONFIG).exists() or versions_in(path)]


def find_home(repository: Path, vertical: str) -> Path:
    """The home of one vertical; `ExportRefusedError` if the repository has none of that name."""
    names = [home.name for home in homes_in(repository)] if repository.is_dir() else []
    if vertical not in names:
        raise ExportRefusedError(f"{repository}: no vertical {vertical!r}; published: {', '.join(names) or 'none'}")
    return repository / vertical


def versions_in(home: Path) -> list[int]:
    """Numbers of the versions that a home holds, ascending."""
    if not home.is_dir():
        return []
    return sorted(int(entry.name) for entry in home.iterdir() if _NUMBER.fullmatch(entry.name) and entry.is_dir())


def next_version(home: Path) -> int:
    """A number that no version of this home has or ever had."""
    return max([high_water(home), *versions_in(home)]) + 1


def high_water(home: Path) -> int:
    """The highest number ever given here, as its file says; 0 without one."""
    try:
        text = (home / MARK).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise VersionError(f"{home / MARK}: not a number") from error
    if not _NUMBER.fullmatch(text):
        raise VersionError(f"{home / MARK}: {text[:20]!r} is not a number")
    return int(text)


def parse_config(content: bytes) -> Any:
    """The `ModelConfig` message that the bytes of a config.pbtxt spell; `VersionError` if they spell none."""
    if len(content) > CONFIG_BYTES:
        raise VersionError(f"{CONFIG}: {len(content)} bytes; at most {CONFIG_BYTES} are read")
    try:
        return text_format.Parse(content.decode(), model_config_pb2.ModelConfig())
    except (ValueError, text_format.ParseError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise VersionError(f"{CONFIG}: not a model configuration: {first}") from error


def read_config(home: Path) -> bytes | None:
    """The bytes of config.pbtxt; None without that file. Each publication replaces it, so read it once and keep it."""
    try:
        return (home / CONFIG).read_bytes()
    except FileNotFoundError:
        return None


def served_version(home: Path) -> int | None:
    """The one version that config.pbtxt names; None without that file. `VersionError` as `version_named`."""
    content = read_config(home)
    return None if content is None else version_named(home, content)


def version_named(home: Path, content: bytes) -> int:
    """The one version that these bytes of the home's config.pbtxt name.

    Raises:
        VersionError: they are no configuration, or do not name exactly one version.
    """
    try:
        versions = parse_config(content).version_policy.specific.versions
    except VersionError as error:
        raise VersionError(f"{home}: {error}") from error
    if len(versions) != 1:
        raise VersionError(f"{home / CONFIG}: names {len(versions)} versions under version_policy, not one")
    return int(versions[0])
