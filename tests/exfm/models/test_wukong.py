import pytest
import torch
from torch import nn

from exfm.models.wukong import FactorizationBlock, LinearCompression, WukongLayer, interact, wukong


def test_interact_with_identity_is_the_basic_factorization_machine() -> None:
    tokens = torch.randn(3, 6, 4)
    torch.testing.assert_close(interact(tokens, torch.eye(6)), tokens @ tokens.transpose(1, 2))


def test_interact_is_the_projected_basic_factorization_machine() -> None:
    tokens, projection = torch.randn(2, 7, 4), torch.randn(7, 3)
    torch.testing.assert_close(interact(tokens, projection), tokens @ tokens.transpose(1, 2) @ projection)


def test_interaction_is_of_degree_two() -> None:
    tokens, projection = torch.randn(2, 7, 4), torch.randn(7, 3)
    torch.testing.assert_close(interact(3.0 * tokens, projection), 9.0 * interact(tokens, projection))


def test_linear_compression_is_linear() -> None:
    block = LinearCompression(6, 3)
    one, two = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    torch.testing.assert_close(block(2.0 * one - 3.0 * two), 2.0 * block(one) - 3.0 * block(two))


def test_factorization_block_shape() -> None:
    block = FactorizationBlock(6, 4, outputs=5, rank=3, hidden=8)
    assert block(torch.randn(2, 6, 4)).shape == (2, 5, 4)


@pytest.mark.parametrize(("tokens", "kind"), [(8, "Identity"), (5, "TokenMix")])
def test_residual_is_the_identity_only_where_token_counts_agree(tokens: int, kind: str) -> None:
    layer = WukongLayer(tokens, 4, fmb=4, lcb=4, rank=3, hidden=8)
    assert type(layer.residual).__name__ == kind
    assert layer(torch.randn(2, tokens, 4)).shape == (2, 8, 4)


def test_layer_with_silent_blocks_normalises_its_input() -> None:
    layer = WukongLayer(8, 4, fmb=4, lcb=4, rank=3, hidden=8)
    last = layer.fmb.mlp[-1]
    assert isinstance(last, nn.Linear)
    for parameter in (last.weight, last.bias, layer.lcb.weight):
        nn.init.zeros_(parameter)
    tokens = torch.randn(2, 8, 4)
    torch.testing.assert_close(layer(tokens), nn.functional.layer_norm(tokens, (4,)))


def test_stack_ends_in_fmb_plus_lcb_tokens() -> None:
    stack = wukong(11, 4, layers=3, fmb=3, lcb=2, rank=2, hidden=8)
    assert len(stack) == 3
    assert stack(torch.randn(2, 11, 4)).shape == (2, 5, 4)
