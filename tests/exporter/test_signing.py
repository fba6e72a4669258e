import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ExportRefusedError, VersionError
from exporter.signing import (
    NO_KEYS,
    OWN_KEY,
    TrustedKeys,
    load_all_trusted,
    load_public,
    load_signer,
    load_trusted,
    make_key,
    trust,
)


def test_a_signature_counts_only_from_a_trusted_key_and_over_the_same_bytes(tmp_path: Path) -> None:
    one, other = make_key(tmp_path / "one.pem"), make_key(tmp_path / "other.pem")
    trusted = TrustedKeys({one.key_id: one.key.public_key()})
    assert trusted.check(b"manifest", one.sign(b"manifest")) == "signed"
    with pytest.raises(VersionError, match="does not fit the manifest"):
        trusted.check(b"Manifest", one.sign(b"manifest"))
    with pytest.raises(VersionError, match="not among those that the repository trusts"):
        trusted.check(b"manifest", other.sign(b"manifest"))
    with pytest.raises(VersionError, match=f"unsigned; the repository trusts {one.key_id}"):
        trusted.check(b"manifest", None)
    forged = {**json.loads(other.sign(b"manifest")), "key": one.key_id}
    with pytest.raises(VersionError, match="does not fit"):
        trusted.check(b"manifest", json.dumps(forged).encode())


def test_without_trusted_keys_everything_is_taken_and_said(tmp_path: Path) -> None:
    signer = make_key(tmp_path / "one.pem")
    assert NO_KEYS.check(b"manifest", None) == "unsigned"
    assert NO_KEYS.check(b"manifest", signer.sign(b"other")) == "unverified"


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_any_bytes_are_no_signature(content: bytes) -> None:
    trusted = TrustedKeys({"0123456789abcdef": Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()})
    with pytest.raises(VersionError):
        trusted.check(b"manifest", content)


def test_a_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "release.pem"
    signer = make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_public(path.with_suffix(".pub.pem")) == signer.key.public_key()
    with pytest.raises(ExportRefusedError, match="exists"):
        make_key(path)


def test_keys_are_found_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXFM_SIGNING_KEY", raising=False)
    assert load_signer(None, tmp_path) is None
    ids = {name: make_key(tmp_path / name).key_id for name in (".keys/signing.pem", "named.pem", "asked.pem")}
    found = [load_signer(None, tmp_path)]
    monkeypatch.setenv("EXFM_SIGNING_KEY", str(tmp_path / "named.pem"))
    found += [load_signer(None, tmp_path), load_signer(tmp_path / "asked.pem", tmp_path)]
    assert [signer.key_id for signer in found if signer] == list(ids.values())


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "other.pem").write_bytes(other.private_bytes(serialization.Encoding.PEM, *form))
    (tmp_path / "junk.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense")
    for name in ("other.pem", "junk.pem", "missing.pem"):
        with pytest.raises(ExportRefusedError, match=f"signing key .*{name}: "):
            load_signer(tmp_path / name, tmp_path)
        with pytest.raises(ExportRefusedError, match=f"trusted key .*{name}: "):
            load_public(tmp_path / name)


def test_trusted_keys_come_from_the_repository_or_a_folder_of_ones_own(tmp_path: Path) -> None:
    repository, signer = tmp_path / "repository", make_key(tmp_path / "one.pem")
    assert load_trusted(repository).keys == {}
    assert trust(repository, signer.key.public_key()).name == f"{signer.key_id}.pem"
    assert list(load_trusted(repository).keys) == [signer.key_id]
    (tmp_path / "own").mkdir()
    with pytest.raises(ExportRefusedError, match=r"no \*\.pem there"):
        load_trusted(repository, tmp_path / "own")
    other = make_key(tmp_path / "two.pem")
    (tmp_path / "two.pub.pem").rename(tmp_path / "own" / "two.pem")
    assert list(load_trusted(repository, tmp_path / "own").keys) == [other.key_id]


def test_trusted_keys_that_may_not_be_listed_do_not_mean_nobody(
    tmp_path: Path, as_nobody: Callable[[Callable[[], object], type[Exception]], str]
) -> None:
    place = trust(tmp_path / "repository", make_key(tmp_path / "one.pem").key.public_key()).parent
    place.chmod(0)
    said = as_nobody(lambda: load_trusted(tmp_path / "repository"), ExportRefusedError)
    place.chmod(0o700)
    assert said == f"trusted keys {place}: Permission denied"


def test_trusted_keys_that_lead_nowhere_do_not_mean_nobody(tmp_path: Path) -> None:
    (tmp_path / "trusted_keys").symlink_to(tmp_path / "gone")
    with pytest.raises(ExportRefusedError, match=r"trusted keys .*/trusted_keys: No such file"):
        load_trusted(tmp_path)


def test_a_key_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    signer = make_key(tmp_path / "one.pem")
    trust(tmp_path, signer.key.public_key()).with_name(".aside-0123.pem").touch()
    assert list(load_trusted(tmp_path).keys) == [signer.key_id]


def test_keys_named_and_the_repositorys_must_both_have_signed(tmp_path: Path) -> None:
    repository, named = tmp_path / "repository", tmp_path / "named"
    one, other = make_key(tmp_path / "one.pem"), make_key(named / "other.pem")
    (named / "other.pem").unlink()
    for signer, state in ((other, "signed"), (None, "unsigned")):
        keys = load_all_trusted(repository, named if signer else None)
        assert keys.check(b"manifest", signer.sign(b"manifest") if signer else None) == state
    trust(repository, one.key.public_key())
    both = load_all_trusted(repository, named)
    assert [list(each.keys) for each in both.sets] == [[other.key_id], [one.key_id]]
    with pytest.raises(VersionError, match=f"not among those that {repository / 'trusted_keys'} trusts"):
        both.check(b"manifest", other.sign(b"manifest"))
    with pytest.raises(VersionError, match=f"not among those that {named} trusts"):
        both.check(b"manifest", one.sign(b"manifest"))
    trust(repository, other.key.public_key())
    assert load_all_trusted(repository, named).check(b"manifest", other.sign(b"manifest")) == "signed"


def test_whoever_serves_can_read_the_keys_that_a_cautious_umask_has_made(tmp_path: Path) -> None:
    repository = tmp_path / "deep" / "repository"
    before = os.umask(0o077)
    try:
        signer = make_key(repository / OWN_KEY)
        public = trust(repository, signer.key.public_key())
    finally:
        os.umask(before)
    seen = [public, public.parent, repository, repository.parent, (repository / OWN_KEY).with_suffix(".pub.pem")]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in seen] == ["0o644", "0o755", "0o755", "0o755", "0o644"]
    assert stat.S_IMODE((repository / OWN_KEY).stat().st_mode) == 0o600
