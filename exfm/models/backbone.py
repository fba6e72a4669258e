"""Students' backbones by name: a request part that runs once per request, a candidate part that runs once per ad."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exfm.models.dcn import LowRankCross
from exfm.models.dense import TokenMix, mlp
from exfm.models.wukong import wukong


class ModelError(ValueError):
    """A model cannot be built as asked; the message names the backbone or the option."""


@dataclass(frozen=True)
class Shape:
    """What a backbone gets to see.

    Attributes:
        request: features per request, the user's and then the context's.
        context: how many of them are the context's.
        candidate: features per candidate.
        dimension: width of one embedding.
    """

    request: int
    context: int
    candidate: int
    dimension: int


class Backbone(nn.Module):
    """Two halves.

    `request` makes a tuple of tensors out of float32 [B, request, d], all of them with B in front; `candidate` makes
    float32 [M, width] out of [M, candidate, d] and those tensors, already gathered to one row per candidate.
    """

    width: int

    def request(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def candidate(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        raise NotImplementedError

    def of_one_request(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """The same as `candidate` where all candidates belong to one request: `state` with B = 1, not gathered.

        For serving; a backbone whose request part can be merged into its weights does so here.
        """
        candidates = embeddings.shape[0]  # len() would fix the number of them in an exported graph
        return self.candidate(embeddings, tuple(part.expand(candidates, *part.shape[1:]) for part in state))


class RequestTokens(nn.Module):
    """The request's features as few tokens: `compressed` mixtures over all of them, then the context's, untouched."""

    def __init__(self, shape: Shape, compressed: int) -> None:
        super().__init__()
        self.count = compressed + shape.context
        self._context_from = shape.request - shape.context
        self.mix = TokenMix(shape.request, compressed)

    def forward(self, embeddings: Tensor) -> Tensor:
        return torch.cat([self.mix(embeddings), embeddings[:, self._context_from :]], 1)


class DotBackbone(Backbone):
    """Dot products of each ad feature with each request token, then an MLP.

    The MLP's first layer is split: its request part, a sum like any other, is computed once per request.
    """

    def __init__(
        self, shape: Shape, *, compressed: int = 5, user_hidden: int = 64, hidden: int = 128, width: int = 64
    ) -> None:
        super().__init__()
        self.width = width
        self.tokens = RequestTokens(shape, compressed)
        self.user = mlp(shape.request * shape.dimension, user_hidden, user_hidden)
        self.from_request = nn.Linear(user_hidden + self.tokens.count * shape.dimension, hidden)
        self.from_ad = nn.Linear(shape.candidate * shape.dimension, hidden, bias=False)
        self.from_dots = nn.Linear(shape.candidate * self.tokens.count, hidden, bias=False)
        self.middle = nn.Linear(hidden, width)

    def request(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        tokens = self.tokens(embeddings)
        user = self.user(embeddings.flatten(1))
        return tokens, self.from_request(torch.cat([user, tokens.flatten(1)], 1))

    def candidate(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        tokens, from_request = state
        dots = torch.matmul(embeddings, tokens.transpose(1, 2)).flatten(1)
        first = functional.relu(from_request + self.from_ad(embeddings.flatten(1)) + self.from_dots(dots))
        return functional.relu(self.middle(first))

    def of_one_request(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """See `Backbone.of_one_request`.

        One request's tokens are constants, so the dot products are linear in the ad's embeddings: their layer adds to
        `from_ad`'s weight, and what is left per candidate is a single matrix product.
        """
        tokens, from_request = state
        hidden, (features, dimension) = len(self.from_ad.weight), embeddings.shape[1:]
        of_dots = torch.matmul(self.from_dots.weight.view(hidden * features, self.tokens.count), tokens[0])
        weight = self.from_ad.weight + of_dots.view(hidden, features * dimension)
        first = functional.relu(torch.matmul(embeddings.flatten(1), weight.t()) + from_request)
        return functional.relu(self.middle(first))


class WukongBackbone(Backbone):
    """A small Wukong over the request's tokens and the ad's features; heavier per candidate than `DotBackbone`."""

    def __init__(
        self,
        shape: Shape,
        *,
        compressed: int = 5,
        layers: int = 1,
        fmb: int = 4,
        lcb: int = 4,
        rank: int = 8,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.width = width
        self.tokens = RequestTokens(shape, compressed)
        self.stack = wukong(
            self.tokens.count + shape.candidate,
            shape.dimension,
            layers=layers,
            fmb=fmb,
            lcb=lcb,
            rank=rank,
            hidden=width,
        )
        self.middle = nn.Linear((fmb + lcb) * shape.dimension, width)

    def request(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        return (self.tokens(embeddings),)

    def candidate(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        tokens = self.stack(torch.cat([state[0], embeddings], 1))
        return functional.relu(self.middle(tokens.flatten(1)))


class DcnBackbone(Backbone):
    """DCN V2, stacked: low-rank cross layers, then an MLP, over the request's and the ad's embeddings side by side.

    The baseline that users know. Nothing of the request is computed before it is repeated for each candidate.
    """

    def __init__(self, shape: Shape, *, layers: int = 2, rank: int = 64, hidden: int = 256, width: int = 128) -> None:
        super().__init__()
        self.width = width
        inputs = (shape.request + shape.candidate) * shape.dimension
        self.crosses = nn.ModuleList(LowRankCross(inputs, rank) for _ in range(layers))
        self.deep = mlp(inputs, hidden, width)

    def request(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        return (embeddings.flatten(1),)

    def candidate(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        value = first = torch.cat([state[0], embeddings.flatten(1)], 1)
        for cross in self.crosses:
            value = cross(first, value)
        return functional.relu(self.deep(value))


class LinearBackbone(Backbone):
    """The least that still knows the user: a small vector of the ad, and its product with one of the request.

    All but the ad's vector, `product` numbers, and one layer over it happens once per request. For tier `lite`.
    """

    def __init__(self, shape: Shape, *, user_hidden: int = 32, product: int = 8, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.user = mlp(shape.request * shape.dimension, user_hidden, product)
        self.from_request = nn.Linear(product, width)
        self.ad = nn.Linear(shape.candidate * shape.dimension, product)
        self.from_ad = nn.Linear(product, width, bias=False)
        self.from_product = nn.Linear(product, width, bias=False)

    def request(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        user = self.user(embeddings.flatten(1))
        return user, self.from_request(user)

    def candidate(self, embeddings: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        user, from_request = state
        ad = self.ad(embeddings.flatten(1))
        return functional.relu(from_request + self.from_ad(ad) + self.from_product(ad * user))


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "dcn": DcnBackbone,
    "dot": DotBackbone,
    "linear": LinearBackbone,
    "wukong": WukongBackbone,
}


def make_backbone(name: str, shape: Shape, options: Mapping[str, Any]) -> Backbone:
    """Build a backbone; `ModelError` names an unknown backbone or option."""
    if name not in BACKBONES:
        raise ModelError(f"backbone {name!r} is none of {', '.join(sorted(BACKBONES))}")
    try:
        return BACKBONES[name](shape, **options)
    except TypeError as error:
        raise ModelError(f"backbone {name!r}: {error}") from error
