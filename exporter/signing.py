"""Who made a version: an ed25519 signature (RFC 8032) over the exact bytes of its manifest."""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from exporter.durable import ASIDE, locked, make_folder, sync, write_durably
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import TRUSTED_KEYS

OWN_KEY = Path(".keys") / "signing.pem"
"""Where a repository may keep a signing key of its own, for a machine that both trains and serves."""
KEY_VARIABLE = "EXFM_SIGNING_KEY"
_ALGORITHM = "ed25519"
SignatureState = Literal["signed", "unverified", "unsigned"]
"""By a trusted key; by some key, where none is trusted; not at all, where none is trusted."""


@dataclass(frozen=True)
class Signer:
    """A private key, and the name under which others trust it."""

    key: Ed25519PrivateKey

    @property
    def key_id(self) -> str:
        return key_id(self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """What `manifest.sig` holds for a manifest of these bytes."""
        signature = base64.b64encode(self.key.sign(content)).decode()
        return json.dumps({"algorithm": _ALGORITHM, "key": self.key_id, "signature": signature}).encode()


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count; without any, unsigned versions are taken, too.

    Attributes:
        keys: by their id.
        place: the folder that they come from, for messages.
        besides: keys that must have signed as well, if there are any.
    """

    keys: Mapping[str, Ed25519PublicKey]
    place: str = "the repository"
    besides: "TrustedKeys | None" = None

    @property
    def sets(self) -> "Iterator[TrustedKeys]":
        """These keys, and those besides: a signer must be in each that holds any."""
        yield self
        if self.besides:
            yield from self.besides.sets

    def check(self, content: bytes, signature: bytes | None) -> SignatureState:
        """Hold a manifest's bytes against its signature.

        Raises:
            VersionError: keys are trusted, and this is not a signature by one of them over these bytes.
        """
        states = [each.check_alone(content, signature) for each in self.sets]
        return "signed" if "signed" in states else states[0]

    def check_alone(self, content: bytes, signature: bytes | None) -> SignatureState:
        """As `check`, without the keys besides."""
        if not self.keys:
            return "unsigned" if signature is None else "unverified"
        if signature is None:
            raise VersionError(f"unsigned; {self.place} trusts {', '.join(sorted(self.keys))}")
        name, raw = _parse(signature)
        if name not in self.keys:
            raise VersionError(f"signed by the key {name[:16]!r}, which is not among those that {self.place} trusts")
        try:
            self.keys[name].verify(raw, content)
        except InvalidSignature as error:
            raise VersionError(f"the signature by {name} does not fit the manifest") from error
        return "signed"


NO_KEYS = TrustedKeys({})


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the sha256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def load_signer(path: Path | None, repository: Path) -> Signer | None:
    """The key of `path`, else of the file that EXFM_SIGNING_KEY names, else the repository's own, else None.

    Raises:
        ExportRefusedError: the file that was named is missing or holds no ed25519 key.
    """
    asked = path or (Path(named) if (named := os.environ.get(KEY_VARIABLE)) else None)
    if asked is None:
        asked = repository / OWN_KEY
        if not asked.exists():
            return None
    try:
        key = serialization.load_pem_private_key(asked.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ExportRefusedError(f"signing key {asked}: {_first_line(error)}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ExportRefusedError(f"signing key {asked}: not an ed25519 key")
    return Signer(key)


def load_trusted(repository: Path, folder: Path | None = None) -> TrustedKeys:
    """The public keys (`*.pem`) of `folder`, or of the repository's own `trusted_keys/`.

    Raises:
        ExportRefusedError: a file is no ed25519 public key, the folder is there but can't be listed, or `folder` was
            named, and is missing or holds none.
    """
    place = folder or repository / TRUSTED_KEYS
    keys = [load_public(path) for path in _key_files(place)]
    if folder is not None and not keys:
        raise ExportRefusedError(f"trusted keys {folder}: no *.pem there")
    return TrustedKeys({key_id(key): key for key in keys}, str(place))


def load_all_trusted(repository: Path, folder: Path | None = None) -> TrustedKeys:
    """The keys for whoever changes what is served: those of `folder`, if it is named, and the repository's own besides.

    Some readers go by the ones and some by the others, so what either would refuse must not be served.

    Raises:
        ExportRefusedError: as `load_trusted`, of either.
    """
    own = load_trusted(repository)
    return own if folder is None else replace(load_trusted(repository, folder), besides=own)


def _key_files(place: Path) -> list[Path]:
    """Those in a folder; none where there is no such folder."""
    try:
        # Not `glob`: to it, a folder that may not be listed is an empty one, and whoever trusts nobody takes anything.
        names = sorted(entry.name for entry in os.scandir(place) if entry.name.endswith(".pem"))
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.lexists(place):
            return []
        raise ExportRefusedError(f"trusted keys {place}: {error.strerror}") from error
    # One whose name begins with ASIDE is being written.
    return [place / name for name in names if not name.startswith(ASIDE)]


def make_key(path: Path) -> Signer:
    """Write a new private key, readable by its owner alone, and its public half beside it as `<name>.pub.pem`.

    Raises:
        ExportRefusedError: the file is there already; a key that was in use is never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.PEM, kind, plain)
    make_folder(path.parent)  # for the public half
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ExportRefusedError(f"signing key {path}: exists; remove it yourself if it is of no use") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        sync(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    write_durably(path.with_suffix(".pub.pem"), _public_pem(key.public_key()))
    return Signer(key)


def trust(repository: Path, key: Ed25519PublicKey) -> Path:
    """Count signatures by this key from now on; returns its file in the repository."""
    place = repository / TRUSTED_KEYS
    make_folder(place)
    path = place / f"{key_id(key)}.pem"
    with locked(repository):
        write_durably(path, _public_pem(key))
        sync(repository)
    return path


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file; `ExportRefusedError` if it holds no ed25519 key."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ExportRefusedError(f"trusted key {path}: {_first_line(error)}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ExportRefusedError(f"trusted key {path}: not an ed25519 key")
    return key


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _parse(signature: bytes) -> tuple[str, bytes]:
    try:
        entry = json.loads(signature)
        if entry["algorithm"] != _ALGORITHM:
            raise VersionError(f"the signature's algorithm is {entry['algorithm']!r}, not {_ALGORITHM}")
        return str(entry["key"]), base64.b64decode(entry["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        if isinstance(error, VersionError):
            raise
        raise VersionError("the signature's file is not readable") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
