import numpy as np
import pytest

from exfm.features.columns import Searched
from exfm.features.encoding import FEW, Encoder
from exfm.features.schema import Feature, Schema, SchemaError, Vertical
from exfm.features.values import seed_of

ONE, TWO = Feature("one", "ad", "category", vocabulary=(7,)), Feature("two", "ad", "category", vocabulary=(7, 9))
ALIKE = int(np.array(7, np.uint64) ^ seed_of("one") ^ seed_of("two")) - 2**64
"""As a value of `two`, it is with its seed what 7 is with that of `one`."""


def test_a_value_of_another_feature_is_unknown() -> None:
    features = [ONE, TWO]
    rows = np.full((2, 2), -1)
    assert Searched(features, [0, 2]).fill(rows, np.array([[7, 9], [ALIKE, 9]])) == 2
    assert rows.tolist() == [[1, 0], [2, 4]]
    encoder = Encoder(Schema("s", (ONE, TWO), (Vertical("feed", ("click",)),)))
    for count in (1, FEW + 1):
        encoded = encoder.encode("ad", np.array(count * [[7, ALIKE]]), np.empty((count, 0), np.float32))
        assert encoded.rows.tolist() == count * [[1, 2]]
        assert encoded.unknown == count


def test_searched_values_that_hash_alike_are_refused() -> None:
    with pytest.raises(SchemaError, match="hash alike: rename one"):
        Searched([ONE, Feature("two", "ad", "category", vocabulary=(ALIKE,))], [0, 2])
