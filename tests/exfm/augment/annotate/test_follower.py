"""The online store follows the stream, wherever either of them was left."""

from dataclasses import replace
from typing import Any

import pytest

from exfm.augment.store.store import StoreUnavailableError


def test_a_store_behind_retention_gets_what_is_left(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.options = replace(plant.options, batch=40)
    plant.join()
    annotator = plant.open()

    def refuse(*_: Any) -> None:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(plant.store, "update", refuse)
        plant.drain(annotator)
    assert annotator.drop_before(int(plant.world.source.examples.time_ms[150])) > 0
    while plant.store.position() < annotator.last.number:
        before = plant.store.position()
        annotator.step()
        assert before < plant.store.position()
    annotator.close()
    left: dict[int, list[int]] = {}
    for part in plant.parts():
        for user, time_ms in zip(part.examples.user.tolist(), part.examples.time_ms.tolist(), strict=True):
            left.setdefault(user, []).append(time_ms)
    found = {user: plant.store.read(user) for user in range(40)}
    assert {user: each.time_ms.tolist() for user, each in found.items() if each} == {u: sorted(left[u]) for u in left}
    plant.store.update({}, 1000)  # it followed another stream before
    annotator = plant.open()
    assert plant.store.position() == annotator.last.number
    annotator.close()
