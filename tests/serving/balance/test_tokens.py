import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.balance.tokens import HedgeTokens


def test_a_hedge_takes_one_and_twenty_requests_bring_it_back() -> None:
    tokens = HedgeTokens(0.05, 2)
    assert [tokens.take() for _ in range(3)] == [True, True, False]
    for _ in range(19):
        tokens.accrue()
    assert not tokens.take()
    tokens.accrue()
    tokens.accrue()
    assert tokens.take()
    assert tokens.taken == 3


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1), st.floats(1, 20))
def test_hedges_never_exceed_their_share_of_the_requests(events: list[bool], share: float, most: float) -> None:
    tokens, requests = HedgeTokens(share, most), 0
    for is_request in events:
        if is_request:
            requests += 1
            tokens.accrue()
        else:
            tokens.take()
        assert 0 <= tokens.left <= most
        assert tokens.taken <= share * requests + most + 1e-6


@pytest.mark.parametrize(("share", "most"), [(-0.1, 5), (1.1, 5), (0.1, 0.5)])
def test_a_budget_that_makes_no_sense_is_refused(share: float, most: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        HedgeTokens(share, most)
