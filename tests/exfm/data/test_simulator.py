from dataclasses import replace

import numpy as np
import pytest

from exfm.data.examples import Examples
from exfm.data.simulated_world import Impressions, make_world
from exfm.data.simulator import SHARES, TRUTHS, Scale, simulate
from exfm.data.source import Source, open_source
from exfm.features.encoding import MISSING, Encoder
from exfm.features.schema import SIDES
from exfm.features.signature import blocks_of

SMALL = Scale(rows=2000, days=3, users=200, ads=80)


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(None, seed=1)


def arrays_of(examples: Examples) -> list[bytes]:
    values = [value if isinstance(value, dict) else {"": value} for value in vars(examples).values()]
    return [array.tobytes() for value in values for array in value.values()]


def served(examples: Examples, task: str) -> Examples:
    return examples.take(~np.isnan(examples.truth[task]))


def test_same_seed_same_bytes() -> None:
    assert arrays_of(simulate(3, SMALL)[1]) == arrays_of(simulate(3, SMALL)[1])
    different = zip(arrays_of(simulate(3, SMALL)[1]), arrays_of(simulate(4, SMALL)[1]), strict=True)
    assert sum(a != b for a, b in different) >= 8


def test_size_and_order(source: Source) -> None:
    examples = source.examples
    assert len(examples) == 60_000
    assert (np.diff(examples.time_ms) >= 0).all()
    assert len(np.unique(source.days)) == 6
    assert 0 < source.last_day < len(examples)
    assert examples.bid.dtype == np.float32
    assert (examples.bid > 0).all()
    assert abs(np.log(examples.bid).mean() + 0.5) < 0.1


@pytest.mark.parametrize("task", list(TRUTHS))
def test_outcomes_follow_the_truth(source: Source, task: str) -> None:
    rows = served(source.examples, task)
    truth, label = rows.truth[task].astype(float), rows.labels[task].astype(float)
    assert abs(truth.mean() - TRUTHS[task].rate) < 1e-4
    error = np.sqrt((truth * (1 - truth)).sum())
    assert abs((label - truth).sum()) < 4 * error
    # And so in each tenth by truth, not only on the whole.
    order = np.argsort(truth)
    for part in np.array_split(order, 10):
        assert abs((label[part] - truth[part]).sum()) < 4 * np.sqrt((truth[part] * (1 - truth[part])).sum())


def test_a_row_belongs_to_one_vertical(source: Source) -> None:
    examples = source.examples
    click, buy = (~np.isnan(examples.labels[task]) for task in TRUTHS)
    assert (click ^ buy).all()
    assert abs(click.mean() - SHARES["shop_click"]) < 0.01
    for task in TRUTHS:
        np.testing.assert_array_equal(np.isnan(examples.truth[task]), np.isnan(examples.labels[task]))


def test_outcomes_come_late(source: Source) -> None:
    for task, truth in TRUTHS.items():
        delay, label = source.examples.delay_s[task], source.examples.labels[task]
        np.testing.assert_array_equal(np.isnan(delay), label != 1)
        assert (delay[label == 1] > 0).all()
        assert 0.9 < np.median(delay[label == 1]) / truth.delay_median_s < 1.1


def test_the_truth_drifts() -> None:
    """The same user, ad, device and hour has another probability on another day, by the ad's category."""
    world = make_world(np.random.default_rng(0), users=50, ads=40, days=3)
    place = np.arange(40)
    early = Impressions(place, place, place % 2, place % 3, place % 24, when=np.zeros(40))
    late = replace(early, when=np.ones(40))
    change = world.effects(TRUTHS["click"], late) - world.effects(TRUTHS["click"], early)
    np.testing.assert_allclose(change, 0.3 + world.category_drift[world.ads.category])
    assert np.std(change) > 0.1


def test_the_log_shows_the_drift(source: Source) -> None:
    rows = served(source.examples, "click")
    first, last = (rows.take(part) for part in (np.arange(12_000), np.arange(len(rows) - 12_000, len(rows))))
    changes = []
    for category in np.unique(rows.blocks["ad_ids"][:, 2]):
        early, late = (part.truth["click"][part.blocks["ad_ids"][:, 2] == category] for part in (first, last))
        changes.append(late.mean() - early.mean())
    assert np.ptp(changes) > 0.05


def test_users_and_ads_come_and_go(source: Source) -> None:
    first, last = source.examples.slice(0, 10_000), source.examples.slice(50_000, 60_000)
    for early, late in ((first.user, last.user), (first.ad, last.ad)):
        assert 0.1 < np.isin(late, early).mean() < 0.9
        assert 0.1 < np.isin(early, late).mean() < 0.9


def test_blocks_follow_the_schema(source: Source) -> None:
    encoder = Encoder(source.schema)
    for side in SIDES:
        ids, numbers = (source.examples.blocks[block.name] for block in blocks_of(source.schema, side))
        encoded = encoder.encode(side, ids, numbers)
        assert encoded.unknown == 0
        assert np.isfinite(numbers).all()
        # Every column varies, or it could not inform.
        assert all(len(np.unique(column)) > 1 for column in encoded.rows.T)
    assert (source.examples.blocks["user_ids"] == MISSING).any()


def test_catalogues_describe_the_rows(source: Source) -> None:
    examples = source.examples
    for catalogue, key, side in ((source.users, examples.user, "user"), (source.ads, examples.ad, "ad")):
        place = np.searchsorted(catalogue.key, key)
        np.testing.assert_array_equal(catalogue.key[place], key)
        for kind in ("ids", "numbers"):
            name = f"{side}_{kind}"
            np.testing.assert_array_equal(catalogue.blocks[name][place], examples.blocks[name])


def test_features_tell_much_of_the_truth(source: Source) -> None:
    """Of the variance of the true logits a table over visible segment and category alone explains a good part."""
    rows = served(source.examples, "click")
    chance = rows.truth["click"].astype(float)
    logit = np.log(chance / (1 - chance))
    segment, category = rows.blocks["user_ids"][:, 1], rows.blocks["ad_ids"][:, 2]
    cell = np.unique(np.stack([segment, category], 1), axis=0, return_inverse=True)[1].ravel()
    means = np.bincount(cell, logit) / np.bincount(cell)
    assert 1 - np.var(logit - means[cell]) / np.var(logit) > 0.3
