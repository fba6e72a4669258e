import pytest
import torch

from exfm.models.backbone import BACKBONES, ModelError, RequestTokens, Shape, make_backbone

SHAPE = Shape(request=5, context=2, candidate=3, dimension=4)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_backbone_halves_fit_together(name: str) -> None:
    backbone = make_backbone(name, SHAPE, {"width": 9})
    state = backbone.request(torch.randn(2, 5, 4))
    assert all(len(part) == 2 for part in state)
    assert backbone.candidate(torch.randn(2, 3, 4), state).shape == (2, 9)
    assert backbone.width == 9


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_one_requests_candidates_need_no_gathered_state(name: str) -> None:
    backbone = make_backbone(name, SHAPE, {}).eval()
    state, ads = backbone.request(torch.randn(1, 5, 4)), torch.randn(9, 3, 4)
    gathered = tuple(torch.index_select(part, 0, torch.zeros(9, dtype=torch.int64)) for part in state)
    torch.testing.assert_close(backbone.of_one_request(ads, state), backbone.candidate(ads, gathered))


def test_request_tokens_keep_the_context_untouched() -> None:
    tokens, embeddings = RequestTokens(SHAPE, compressed=3), torch.randn(2, 5, 4)
    made = tokens(embeddings)
    assert made.shape == (2, 5, 4)
    assert torch.equal(made[:, 3:], embeddings[:, 3:])


def test_unknown_backbone_is_named() -> None:
    with pytest.raises(ModelError, match=r"'dcm' is none of dcn, dot, linear, wukong"):
        make_backbone("dcm", SHAPE, {})


def test_unknown_option_is_named() -> None:
    with pytest.raises(ModelError, match=r"'dot'.*'widht'"):
        make_backbone("dot", SHAPE, {"widht": 3})
