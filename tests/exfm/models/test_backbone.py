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


def test_request_tokens_keep_the_context_untouched() -> None:
    tokens, embeddings = RequestTokens(SHAPE, compressed=3), torch.randn(2, 5, 4)
    made = tokens(embeddings)
    assert made.shape == (2, 5, 4)
    assert torch.equal(made[:, 3:], embeddings[:, 3:])


def test_unknown_backbone_is_named() -> None:
    with pytest.raises(ModelError, match=r"'dcm' is none of dot, linear, wukong"):
        make_backbone("dcm", SHAPE, {})


def test_unknown_option_is_named() -> None:
    with pytest.raises(ModelError, match=r"'dot'.*'widht'"):
        make_backbone("dot", SHAPE, {"widht": 3})
