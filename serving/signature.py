"""Who vouches for a published version: an ed25519 signature (RFC 8032) over the exact bytes of its manifest."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from serving.errors import RepositoryError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
TRUSTED_KEYS = "trusted_keys"


def check_signature(repository: Path, version: Path) -> None:
    """Hold a version's manifest against the keys that the repository trusts; without any, everything passes.

    Raises:
        RepositoryError: keys are trusted, and the manifest isn't signed by one of them; or a key can't be read.
    """
    paths = sorted((repository / TRUSTED_KEYS).glob("*.pem"))
    if not paths:
        return
    # Only here, so that a repository which trusts nobody in particular needs no cryptography.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    name, signature = _entry(version / SIGNATURE)
    key = {_id(key): key for key in map(_key, paths)}.get(name)
    if key is None:
        raise RepositoryError(f"{version}: signed by the key {name[:16]!r}, which {repository / TRUSTED_KEYS} lacks")
    try:
        key.verify(signature, (version / MANIFEST).read_bytes())
    except InvalidSignature as error:
        raise RepositoryError(f"{version}: the signature by {name} does not fit {MANIFEST}") from error


def _entry(path: Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise RepositoryError(f"{path.parent}: unsigned, and this repository trusts only signed versions")
    try:
        entry = json.loads(path.read_bytes())
        return str(entry["key"]), base64.b64decode(entry["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RepositoryError(f"{path}: not a signature: {error!r}") from error


def _key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path}: not a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RepositoryError(f"{path}: not an ed25519 key")
    return key


def _id(key: Any) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
