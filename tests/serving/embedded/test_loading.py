import json
from pathlib import Path

import pytest

from serving.embedded.loading import BYTES_PER_S, INSTANCE_S, SERVER_S, Loading, Model


def config(instances: int, version: int = 1) -> str:
    group = [{"count": instances}] if instances else []
    return json.dumps({"name": "m", "version_policy": {"specific": {"versions": [version]}}, "instance_group": group})


def test_time_grows_with_models_instances_and_weights(tmp_path: Path) -> None:
    (tmp_path / "large/2/deep").mkdir(parents=True)
    (tmp_path / "large/2/deep/table.npy").write_bytes(bytes(5_000_000))
    (tmp_path / "large/1").mkdir()
    (tmp_path / "large/1/old.npy").write_bytes(bytes(5_000_000))
    found = Loading.of(tmp_path, {"large": config(17, 2), "small": config(3)})
    assert found.models == {"large": Model(17, 5_000_000), "small": Model(3, 0)}
    assert found.bound_s == pytest.approx(SERVER_S + 20 * INSTANCE_S + 17 * 5_000_000 / BYTES_PER_S)
    assert found.text() == "large (17 instances of 5.0 MB), small (3 instances of 0.0 MB)"


def test_a_model_without_a_configuration_of_its_own_has_the_one_in_its_folder(published_repository: Path) -> None:
    (model,) = Loading.of(published_repository, {"feed_click": None}).models.values()
    assert model.instances >= 3
    assert model.size > 10_000


@pytest.mark.parametrize("text", ["", "{", "[]", config(0), None])
def test_what_cannot_be_read_is_for_triton_to_say(tmp_path: Path, text: str | None) -> None:
    found = Loading.of(tmp_path, {"m": text})
    assert found.text() == "m (1 instance of 0.0 MB)"
    assert found.bound_s == SERVER_S + INSTANCE_S


def test_nothing_takes_only_the_server(tmp_path: Path) -> None:
    assert Loading.of(tmp_path, {}).bound_s == SERVER_S
