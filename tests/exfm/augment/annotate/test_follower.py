"""The online store follows the stream, wherever either of them was left."""

import shutil
from dataclasses import replace
from typing import Any

import pytest

from exfm.augment.store.lmdb_store import LmdbStore
from exfm.augment.store.store import EmbeddingStore, StoreUnavailableError


def in_the_stream(plant: Any) -> dict[int, list[int]]:
    """When each user's events were, of what the stream has."""
    found: dict[int, list[int]] = {}
    for part in plant.parts():
        for user, time_ms in zip(part.examples.user.tolist(), part.examples.time_ms.tolist(), strict=True):
            found.setdefault(user, []).append(time_ms)
    return {user: sorted(times) for user, times in found.items()}


def in_the_store(store: EmbeddingStore) -> dict[int, list[int]]:
    """The same of what the store has."""
    found = {user: store.read(user) for user in range(40)}
    return {user: each.time_ms.tolist() for user, each in found.items() if each}


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
    assert in_the_store(plant.store) == in_the_stream(plant)
    plant.store.update({}, 1000)  # it followed another stream before
    annotator = plant.open()
    assert plant.store.position() == annotator.last.number
    annotator.close()


@pytest.mark.parametrize("old", [False, True], ids=["removed", "an old copy"])
def test_a_store_that_is_lost_under_a_running_annotator_comes_back_from_the_stream(plant: Any, old: bool) -> None:
    plant.options = replace(plant.options, batch=40)
    plant.join()
    folder, copy = plant.folder / "store", plant.folder / "copy"
    plant.store = LmdbStore(folder)
    annotator = plant.open()
    annotator.step()
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("lock.mdb"))
    annotator.step()
    shutil.rmtree(folder)
    if old:
        copy.rename(folder)
    plant.drain(annotator)
    last = annotator.last.number
    annotator.close()
    plant.store.close()
    there = LmdbStore(folder)  # what lies in the folder, whatever the annotator had open
    assert (there.position(), in_the_store(there)) == (last, in_the_stream(plant))
    there.close()
