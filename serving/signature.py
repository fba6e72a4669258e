"""Who vouches for a published version: an ed25519 signature (RFC 8032) over the exact bytes of its manifest."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from serving.errors import RepositoryError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
TRUSTED_KEYS = "trusted_keys"
_ASIDE = ".aside-"


def trusted_keys(repository: Path, folder: Path | None = None) -> tuple[Path, ...]:
    """The files (`*.pem`) of the keys that count: those of `folder`, or else of the repository's own `trusted_keys/`.

    Raises:
        RepositoryError: the folder is there but can't be listed; or `folder` was named, and is missing or holds none.
    """
    place = folder or repository / TRUSTED_KEYS
    try:
        # Not `glob`: to it, a folder that may not be listed is an empty one, and whoever trusts nobody takes anything.
        found = [entry.name for entry in os.scandir(place) if entry.name.endswith(".pem")]
    except OSError as error:
        absent = isinstance(error, FileNotFoundError) and folder is None and not place.is_symlink()
        if not absent:
            raise RepositoryError(f"trusted keys {place}: {error.strerror}") from error
        found = []
    # One of those is being written, and gets its name when it is whole.
    names = sorted(name for name in found if not name.startswith(_ASIDE))
    if folder is not None and not names:
        raise RepositoryError(f"trusted keys {folder}: no *.pem there")
    return tuple(place / name for name in names)


def check_signature(version: Path, content: bytes, keys: tuple[Path, ...]) -> None:
    """Hold the bytes of a version's manifest against the keys that count; without any, everything passes.

    Raises:
        RepositoryError: keys are trusted, and the manifest isn't signed by one of them; or a key can't be read.
    """
    if not keys:
        return
    # Only here, so that a repository which trusts nobody in particular needs no cryptography.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    name, signature = _entry(version / SIGNATURE, keys[0].parent)
    key = {_id(key): key for key in map(_key, keys)}.get(name)
    if key is None:
        raise RepositoryError(f"{version}: signed by the key {name[:16]!r}, which {keys[0].parent} lacks")
    try:
        key.verify(signature, content)
    except InvalidSignature as error:
        raise RepositoryError(f"{version}: the signature by {name} does not fit {MANIFEST}") from error


def _entry(path: Path, place: Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise RepositoryError(f"{path.parent}: unsigned, and only what a key of {place} has signed is taken")
    try:
        entry = json.loads(path.read_bytes())
        return str(entry["key"]), base64.b64decode(entry["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RepositoryError(f"{path}: not a signature: {error!r}") from error


def _key(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise RepositoryError(f"{path}: not a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RepositoryError(f"{path}: not an ed25519 key")
    return key


def _id(key: Any) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
