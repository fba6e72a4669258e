import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.features.schema import Schema
from serving.catalog import Batching
from serving.errors import RepositoryError, UnknownVerticalError
from serving.repository import load_catalog, triton_configs

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def repository(published_repository: Path, tmp_path: Path) -> Path:
    """A copy that may be changed, of feed_click only."""
    shutil.copytree(published_repository / "feed_click", tmp_path / "feed_click", copy_function=shutil.copyfile)
    return tmp_path


def _edit(repository: Path, edit: Edit, version: int = 1) -> None:
    path = repository / "feed_click" / str(version) / "manifest.json"
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


def _renumber(manifest: dict[str, Any], version: int) -> None:
    manifest["version"] = version


def _pin(repository: Path, versions: str) -> None:
    path = repository / "feed_click/config.pbtxt"
    path.write_text(path.read_text().replace("versions: 1", versions))


def test_the_version_that_the_configuration_names_counts(repository: Path) -> None:
    folder = repository / "feed_click"
    for version in (2, 10):
        shutil.copytree(folder / "1", folder / str(version), copy_function=shutil.copyfile)
        _edit(repository, partial(_renumber, version=version), version)
    (folder / "notes").mkdir()
    assert load_catalog(repository)["feed_click"].version == 1
    _pin(repository, "versions: 10")
    assert load_catalog(repository)["feed_click"].version == 10


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "prior.npz"])
def test_a_named_version_that_is_incomplete_is_refused(repository: Path, name: str) -> None:
    shutil.copytree(repository / "feed_click/1", repository / "feed_click/2", copy_function=shutil.copyfile)
    _edit(repository, partial(_renumber, version=2), 2)
    (repository / "feed_click/1" / name).unlink()
    with pytest.raises(RepositoryError, match=f"feed_click/1: incomplete, no {name}; config.pbtxt names this version"):
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
    _pin(repository, "versions: 2")
    with pytest.raises(RepositoryError, match="version 2 was published just now"):
        triton_configs(repository, catalog)


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
