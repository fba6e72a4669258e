import base64
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.features.schema import Schema
from exporter.rollback import Pruned, prune
from exporter.signing import make_key
from serving.catalog import Batching
from serving.errors import RepositoryError, UnknownVerticalError
from serving.published import Version, open_version
from serving.repository import load_catalog, triton_configs

Edit = Callable[[dict[str, Any]], Any]
Republish = Callable[[Path, int], None]
AsNobody = Callable[[Callable[[], object], type[Exception]], str]


@pytest.fixture
def repository(published_repository: Path, tmp_path: Path) -> Path:
    """A copy that may be changed, of feed_click only."""
    shutil.copytree(published_repository / "feed_click", tmp_path / "feed_click", copy_function=shutil.copyfile)
    return tmp_path


def _edit(repository: Path, edit: Edit) -> None:
    path = repository / "feed_click/1/manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def _rewrite(repository: Path, name: str, data: bytes) -> None:
    """Replace a file and its hash."""
    (repository / "feed_click/1" / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    _edit(repository, lambda manifest: manifest["files"].update({name: digest}))


def test_what_was_published_is_read(published_repository: Path, tiny_schema: Schema) -> None:
    catalog = load_catalog(published_repository)
    assert sorted(catalog) == ["feed_click", "feed_long_view"]
    click = catalog["feed_click"]
    facts = tiny_schema.vertical("feed_click")
    assert (click.version, click.tasks, click.max_candidates) == (1, facts.tasks, facts.max_candidates)
    assert click.budget_s == pytest.approx(facts.budget_ms / 1e3)
    assert click.golden.tolerance == pytest.approx(1e-4)
    assert click.golden.probability.shape == (64, 2)
    assert set(click.golden.inputs) == {tensor.name for tensor in click.tensors}
    assert click.prior.lookup(np.array([100, 5], np.int64)).shape == (2, 2)
    with pytest.raises(UnknownVerticalError, match="no vertical 'x' here; served: feed_click, feed_long_view"):
        catalog.find("x")


def test_the_manifest_says_who_forms_batches(repository: Path) -> None:
    assert load_catalog(repository)["feed_click"].batching == Batching(2, 8)
    _edit(repository, lambda manifest: manifest["batching"].update(instances=1))
    assert load_catalog(repository)["feed_click"].batching == Batching(1, 8)
    _edit(repository, lambda manifest: manifest["batching"].update(by="triton"))
    assert load_catalog(repository)["feed_click"].batching is None
    # A version that was published before there was a choice.
    _edit(repository, lambda manifest: manifest.pop("batching"))
    assert load_catalog(repository)["feed_click"].batching is None


def _pin(repository: Path, versions: str) -> None:
    path = repository / "feed_click/config.pbtxt"
    path.write_text(path.read_text().replace("versions: 1", versions))


def test_the_version_that_the_configuration_names_counts(repository: Path, republish: Republish) -> None:
    home = repository / "feed_click"
    (home / "notes").mkdir()
    assert load_catalog(repository)["feed_click"].version == 1
    for version in (2, 10):
        republish(home, version)
    assert load_catalog(repository)["feed_click"].version == 10
    shutil.copyfile(home / "2/published.pbtxt", home / "config.pbtxt")
    assert load_catalog(repository)["feed_click"].version == 2


def test_versions_that_are_named_count_whatever_was_published_meanwhile(repository: Path, republish: Republish) -> None:
    first = load_catalog(repository)
    republish(repository / "feed_click", 2)
    assert load_catalog(repository, versions={"feed_click": 1})["feed_click"].version == 1
    config = json.loads(triton_configs(repository, first)["feed_click"])
    assert config["version_policy"] == {"specific": {"versions": ["1"]}}
    shutil.rmtree(repository / "feed_click/1")
    with pytest.raises(RepositoryError, match=r"feed_click/1: incomplete, no manifest\.json"):
        load_catalog(repository, versions={"feed_click": 1})


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "prior.npz"])
def test_a_named_version_that_is_incomplete_is_refused(repository: Path, name: str, republish: Republish) -> None:
    home = repository / "feed_click"
    republish(home, 2)
    shutil.copyfile(home / "1/published.pbtxt", home / "config.pbtxt")
    (home / "1" / name).unlink()
    with pytest.raises(RepositoryError, match=f"feed_click/1: incomplete, no {name}, and it is to be served"):
        load_catalog(repository)


def test_a_named_version_that_is_not_there_is_refused(repository: Path) -> None:
    _pin(repository, "versions: 7")
    with pytest.raises(RepositoryError, match=r"feed_click/7: incomplete, no manifest\.json"):
        load_catalog(repository)


@pytest.mark.parametrize(
    ("versions", "says"),
    [("", "names 0 versions"), ("versions: [1, 2]", "names 2 versions"), ("versions: x", "not a model configuration")],
)
def test_a_configuration_that_names_no_one_version_is_refused(repository: Path, versions: str, says: str) -> None:
    _pin(repository, versions)
    with pytest.raises(RepositoryError, match=rf"config\.pbtxt: {says}"):
        load_catalog(repository)


def test_what_triton_is_told_names_the_catalogs_version(repository: Path) -> None:
    catalog = load_catalog(repository)
    config = json.loads(triton_configs(repository, catalog)["feed_click"])
    assert config["version_policy"] == {"specific": {"versions": ["1"]}}
    assert config["parameters"]["schema_hash"]["string_value"] == catalog["feed_click"].schema.digest
    with (repository / "feed_click/1/published.pbtxt").open("ab") as file:
        file.write(b" ")
    with pytest.raises(RepositoryError, match=r"published\.pbtxt: sha256 is"):
        triton_configs(repository, catalog)


EDITS = {
    "environment": 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/evil.tar.gz" } }\n',
    "instances": "instance_group { count: 64 kind: KIND_CPU }\n",
    "platform": 'platform: "onnxruntime_onnx"\n',
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_configuration_that_was_edited_is_refused(repository: Path, edit: str) -> None:
    """It is not among the version's files, but Triton would do what it says."""
    with (repository / "feed_click/config.pbtxt").open("a") as file:
        file.write(edit)
    says = r"changed since version 1 was published; exfm-export rollback feed_click --to 1 puts it back"
    with pytest.raises(RepositoryError, match=says):
        load_catalog(repository)


def test_an_edit_does_not_hide_a_vertical(repository: Path) -> None:
    path = repository / "feed_click/config.pbtxt"
    path.write_text(path.read_text().replace('backend: "python"', 'backend: "onnxruntime"'))
    with pytest.raises(RepositoryError, match="changed since version 1 was published"):
        load_catalog(repository)


def test_a_version_without_a_configuration_of_its_own_is_refused(repository: Path) -> None:
    _edit(repository, lambda manifest: manifest["files"].pop("published.pbtxt"))
    with pytest.raises(RepositoryError, match=r"lists no published\.pbtxt; publish the model anew"):
        load_catalog(repository)


FOREIGN = {
    "tensorrt": 'name: "other"\nplatform: "tensorrt_plan"\n',
    "pinned": 'backend: "onnxruntime"\nversion_policy { specific { versions: 1 } }\n',
    "python": 'name: "other"\nbackend: "python"\n',
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_models_of_others_are_left_out(repository: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (repository / "other/1").mkdir(parents=True)
    (repository / "other/config.pbtxt").write_text(text)
    catalog = load_catalog(repository)
    assert sorted(catalog.models) == ["feed_click"]
    assert "other is left out: exfm-export has not published it" in caplog.text
    assert sorted(triton_configs(repository, catalog)) == ["feed_click"]


def test_what_was_published_for_a_backend_of_tritons_own_is_left_out(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = shutil.copytree(repository / "feed_click", repository / "graph", copy_function=shutil.copyfile)
    (home / ".last_version").touch()
    config = b'backend: "onnxruntime"\nversion_policy { specific { versions: 1 } }\n'
    for path in (home / "config.pbtxt", home / "1/published.pbtxt"):
        path.write_bytes(config)
    manifest = json.loads((home / "1/manifest.json").read_bytes())
    manifest["files"]["published.pbtxt"] = hashlib.sha256(config).hexdigest()
    (home / "1/manifest.json").write_text(json.dumps(manifest))
    assert sorted(load_catalog(repository).models) == ["feed_click"]
    assert "graph is left out: it is not for the frontend" in caplog.text
    (home / "config.pbtxt").write_bytes(config + b"max_batch_size: 4\n")
    with pytest.raises(RepositoryError, match=r"graph/config\.pbtxt: changed since version 1"):
        load_catalog(repository)


def _link_folder(version: Path, tmp_path: Path) -> str:
    """The version's folder is the first that the runner imports from."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/__init__.py").touch()
    (version / "numpy").symlink_to(tmp_path / "evil")
    return r"1/numpy: manifest\.json doesn't list it"


def _link_file(version: Path, tmp_path: Path) -> str:
    (version / "model.py").rename(tmp_path / "model.py")
    (version / "model.py").symlink_to(tmp_path / "model.py")
    return r"1/model\.py: not a plain file"


def _add_pipe(version: Path, _: Path) -> str:
    os.mkfifo(version / "pipe")
    return r"1/pipe: manifest\.json doesn't list it"


def _add_file(version: Path, _: Path) -> str:
    (version / "exfm/sitecustomize.py").touch()
    return r"1/exfm/sitecustomize\.py: manifest\.json doesn't list it"


@pytest.mark.parametrize("add", [_link_folder, _link_file, _add_pipe, _add_file])
def test_what_the_manifest_does_not_vouch_for_is_refused(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, add: Callable[[Path, Path], str]
) -> None:
    says = add(repository / "feed_click/1", tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(RepositoryError, match=says):
        load_catalog(repository)


@pytest.mark.parametrize("name", ["1/model.onnx", "1/manifest.json", "config.pbtxt", "1", "", "../trusted_keys"])
def test_what_may_not_be_read_is_an_error_that_names_it(repository: Path, name: str, as_nobody: AsNobody) -> None:
    (repository / "trusted_keys").mkdir()
    path = (repository / "feed_click" / name).resolve()
    path.chmod(0)
    said = as_nobody(lambda: load_catalog(repository), RepositoryError)
    path.chmod(0o700)
    assert "Permission denied" in said
    assert str(path) in said


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no published model"):
        load_catalog(tmp_path)
    with pytest.raises(RepositoryError, match="no such folder"):
        load_catalog(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.onnx", "schema.json", "golden.npz", "model.py"])
def test_a_changed_file_is_refused_by_name(repository: Path, name: str) -> None:
    path = repository / "feed_click/1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RepositoryError, match=f"{name}: sha256 is .*the manifest says"):
        load_catalog(repository)


MANIFESTS: dict[str, tuple[Edit, str]] = {
    "format": (lambda m: m.update(format=2), "format 2 is unknown"),
    "name": (lambda m: m.update(vertical="other"), "vertical is 'other', the files say 'feed_click'"),
    "version": (lambda m: m.update(version=7), "version is 7, the files say 1"),
    "schema": (lambda m: m.update(schema_hash="00"), "schema_hash is '00', the files say"),
    "tasks": (lambda m: m.update(tasks=["click"]), r"tasks is \['click'\]"),
    "unlisted": (lambda m: m["files"].pop("prior.npz"), "lists no prior.npz"),
    "no budget": (lambda m: m.pop("budget_ms"), "budget_ms"),
    "batching": (lambda m: m["batching"].update(by="other"), "batches formed by 'other' are unknown"),
    "instances": (lambda m: m["batching"].update(instances=0), "batching by 0 instances of 8 requests"),
    "batch": (lambda m: m["batching"].pop("max_requests"), "max_requests"),
    "no batching": (lambda m: m.update(batching=7), "not subscriptable"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_contradicts_its_files_is_refused(repository: Path, case: str) -> None:
    edit, says = MANIFESTS[case]
    _edit(repository, edit)
    with pytest.raises(RepositoryError, match=says):
        load_catalog(repository)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}'])
def test_a_manifest_that_is_none_is_refused(repository: Path, text: str) -> None:
    (repository / "feed_click/1/manifest.json").write_text(text)
    with pytest.raises(RepositoryError, match=r"manifest\.json: not a manifest"):
        load_catalog(repository)


@pytest.mark.parametrize("name", ["prior.npz", "golden.npz", "schema.json"])
def test_a_file_that_is_none_is_refused_by_name(repository: Path, name: str) -> None:
    _rewrite(repository, name, b"nonsense")
    with pytest.raises(RepositoryError, match=name):
        load_catalog(repository)


def test_a_prior_of_another_number_of_tasks_is_refused(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "prior.npz"
    half = np.full((1, 1), 0.5, np.float32)
    np.savez(path, ad=np.array([1]), probability=half, default=half[0])
    _rewrite(repository, "prior.npz", path.read_bytes())
    with pytest.raises(RepositoryError, match=r"prior.npz: probability is \(1, 1\)"):
        load_catalog(repository)


@pytest.fixture
def signed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """The version signed by K1, and folders that trust K1 and K2."""
    place = tmp_path_factory.mktemp("keys")
    signers = {name: make_key(place / name / "key.pem") for name in ("K1", "K2")}
    version = repository / "feed_click/1"
    (version / "manifest.sig").write_bytes(signers["K1"].sign((version / "manifest.json").read_bytes()))
    for name in signers:
        (place / name / "key.pem").unlink()
    return repository, {name: place / name for name in signers}


def test_keys_of_ones_own_count_instead_of_the_repositorys(signed: tuple[Path, dict[str, Path]]) -> None:
    repository, keys = signed
    assert load_catalog(repository, keys["K1"])["feed_click"].version == 1
    with pytest.raises(RepositoryError, match=r"signed by the key .*, which .*/K2 lacks"):
        load_catalog(repository, keys["K2"])
    shutil.copytree(keys["K2"], repository / "trusted_keys")
    with pytest.raises(RepositoryError, match="trusted_keys lacks"):
        load_catalog(repository)
    assert load_catalog(repository, keys["K1"])["feed_click"].version == 1
    (repository / "feed_click/1/manifest.sig").unlink()
    with pytest.raises(RepositoryError, match="unsigned"):
        load_catalog(repository, keys["K1"])


def test_keys_of_ones_own_that_are_none_are_refused(repository: Path) -> None:
    with pytest.raises(RepositoryError, match=r"trusted keys .*/none: No such file"):
        load_catalog(repository, repository / "none")
    (repository / "none").mkdir()
    with pytest.raises(RepositoryError, match=r"trusted keys .*/none: no \*\.pem there"):
        load_catalog(repository, repository / "none")


def test_a_key_of_a_kind_that_nobody_knows_is_refused_by_name(signed: tuple[Path, dict[str, Path]]) -> None:
    """Well formed, and its algorithm has a number that nobody has ever given out."""
    repository, keys = signed
    body = base64.b64encode(bytes.fromhex("300b300506032a030403020001")).decode()
    (keys["K1"] / "odd.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    with pytest.raises(RepositoryError, match=r"odd\.pem: not a public key"):
        load_catalog(repository, keys["K1"])


@pytest.mark.parametrize("place", ["own", "named"])
def test_keys_that_may_not_be_read_do_not_mean_nobody(
    signed: tuple[Path, dict[str, Path]], place: str, as_nobody: AsNobody
) -> None:
    repository, keys = signed
    folder = keys["K1"] if place == "named" else repository / "trusted_keys"
    if place == "own":
        shutil.copytree(keys["K1"], folder)
    (pem,) = folder.iterdir()
    for path in (pem, folder):
        path.chmod(0)
        said = as_nobody(lambda: load_catalog(repository, folder if place == "named" else None), RepositoryError)
        path.chmod(0o700)
        assert "Permission denied" in said


def test_a_version_that_is_served_is_not_pruned(repository: Path, republish: Republish) -> None:
    catalog = load_catalog(repository)
    republish(repository / "feed_click", 2)
    assert prune(repository, "feed_click", 1) == Pruned([], [1])
    assert load_catalog(repository, versions={"feed_click": 1})["feed_click"].version == 1
    assert prune(repository, "feed_click", 1) == Pruned([], [1]), "the first one still has it"
    del catalog
    assert prune(repository, "feed_click", 1) == Pruned([1])
    with pytest.raises(RepositoryError, match="feed_click/1: incomplete, no manifest"):
        load_catalog(repository, versions={"feed_click": 1})


def test_what_is_left_out_or_refused_is_not_kept(repository: Path, republish: Republish) -> None:
    shutil.copytree(repository / "feed_click", repository / "refused")
    with pytest.raises(RepositoryError):
        load_catalog(repository)
    republish(repository / "feed_click", 2)
    assert prune(repository, "feed_click", 1) == Pruned([1])


def test_a_version_that_is_pruned_before_it_is_locked_gives_way_to_the_new_one(
    repository: Path, republish: Republish, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def late(handle: int, how: int) -> None:
        monkeypatch.undo()
        republish(repository / "feed_click", 2)
        assert prune(repository, "feed_click", 1) == Pruned([1])
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert load_catalog(repository)["feed_click"].version == 2


def test_a_version_is_not_pruned_while_it_is_read(
    repository: Path, republish: Republish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(folder: Path, keys: tuple[Path, ...], needed: Sequence[str]) -> Version:
        republish(repository / "feed_click", 2)
        assert prune(repository, "feed_click", 1) == Pruned([], [1])
        return open_version(folder, keys, needed)

    monkeypatch.setattr("serving.repository.open_version", late)
    assert load_catalog(repository)["feed_click"].version == 1


def test_a_version_that_is_replaced_as_it_is_locked_is_not_taken_for_kept(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repository / "feed_click/1/manifest.json"

    def late(*_: int) -> None:
        shutil.copyfile(path, path.with_name("other"))
        path.with_name("other").replace(path)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(RepositoryError, match="feed_click/1: was replaced"):
        load_catalog(repository)


def test_trusted_keys_that_lead_nowhere_do_not_mean_nobody(repository: Path) -> None:
    (repository / "trusted_keys").symlink_to(repository / "gone")
    with pytest.raises(RepositoryError, match=r"trusted keys .*/trusted_keys: No such file"):
        load_catalog(repository)


def test_a_key_that_is_being_written_is_passed_over(signed: tuple[Path, dict[str, Path]]) -> None:
    repository, keys = signed
    shutil.copytree(keys["K1"], repository / "trusted_keys")
    (repository / "trusted_keys/.aside-0123.pem").touch()
    assert load_catalog(repository)["feed_click"].version == 1
