"""From a request's tensors to its scores: encode, run the engine, split; independent of Triton.

Several requests become one run without padding: their candidates are joined. The request side is encoded once per
request, the candidate side once per candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.encoding import SidesEncoder
from exfm.features.schema import Schema
from exfm.features.signature import (
    CANDIDATE_SIDES,
    DTYPES,
    HISTORY,
    OWNER,
    PROBABILITY,
    REQUEST_SIDES,
    Tensor,
    tensors_of,
)
from exporter.runner.engine import Engine, load_engine, read_engine_file

Inputs = dict[str, NDArray[Any]]
_CLIP = 1e-7


class NotServableError(RuntimeError):
    """This version must not be loaded here; the message says why."""


class BadRequestError(ValueError):
    """One request of a batch cannot be scored; the message names the tensor."""


@dataclass(frozen=True)
class Scores:
    """One request's answer: probability float32 [N, T], and how many category values stood in no vocabulary."""

    probability: NDArray[np.float32]
    unknown: int


@dataclass(frozen=True)
class JaggedScores:
    """The answers to several requests: probability float32 [sum N, T], unknown int32 [B]."""

    probability: NDArray[np.float32]
    unknown: NDArray[np.int32]


class Scorer:
    """Scores batches of requests; independent of Triton."""

    def __init__(self, folder: Path, schema: Schema, engine: Engine | None = None) -> None:
        """Load the engine of the version in `folder`, unless another is given."""
        file = read_engine_file(folder)
        self._engine, self._file = engine or load_engine(folder, file), file
        self._tensors = tensors_of(schema)
        self._request = SidesEncoder(schema, REQUEST_SIDES)
        self._candidate = SidesEncoder(schema, CANDIDATE_SIDES)

    def check(self, inputs: Inputs) -> Inputs:
        """One request's tensors as Triton hands them over, without their batch dimension of 1.

        Raises:
            BadRequestError: a tensor has the wrong type or shape, or the candidate tensors differ in length.
        """
        rows: dict[str, int] = {}
        for tensor in self._tensors:
            value, group = inputs[tensor.name], tensor.name.partition("_")[0]
            if value.dtype != DTYPES[tensor.kind] or value.shape[-1] != tensor.width or value.shape[0] != 1:
                raise BadRequestError(f"{tensor.name}: {_describe(value)}, expected {_expected(tensor)}")
            if group == "candidate":
                inputs[tensor.name] = value = value[0]
            if value.ndim != 2 or rows.setdefault(group, len(value)) != len(value):
                raise BadRequestError(f"{tensor.name}: {_describe(value)} does not fit the other tensors")
        return inputs

    def score(self, requests: Sequence[Inputs]) -> list[Scores]:
        """Score checked requests in one run of the engine, each as if it were alone."""
        joined = {t.name: _join([request[t.name] for request in requests]) for t in self._tensors}
        counts = [len(request[self._tensors[-1].name]) for request in requests]
        scores = self._run(joined, np.array(counts, np.int64))
        parts = np.split(scores.probability, np.cumsum(counts)[:-1])
        return [Scores(part, int(count)) for part, count in zip(parts, scores.unknown, strict=True)]

    def score_jagged(self, joined: Inputs, owner: NDArray[np.int64]) -> JaggedScores:
        """Score requests that came joined, in one run of the engine, each as if it were alone.

        Args:
            joined: `request_*` [B, w] and `candidate_*` [sum N, w].
            owner: [sum N], which request each candidate belongs to, ascending; each has at least one.

        Raises:
            BadRequestError: a tensor has the wrong type or shape, or they don't fit each other.
        """
        return self._run(joined, self._counts(joined, owner))

    def _counts(self, joined: Inputs, owner: NDArray[np.int64]) -> NDArray[np.int64]:
        """Candidates of each request, int64 [B]."""
        rows: dict[str, int] = {}
        for tensor in self._tensors:
            value, group = joined[tensor.name], tensor.name.partition("_")[0]
            if value.dtype != DTYPES[tensor.kind] or value.ndim != 2 or value.shape[1] != tensor.width:
                expected = f"{DTYPES[tensor.kind]} [*, {tensor.width}]"
                raise BadRequestError(f"{tensor.name}: {_describe(value)}, expected {expected}")
            if rows.setdefault(group, len(value)) != len(value):
                raise BadRequestError(f"{tensor.name}: {_describe(value)} does not fit the other tensors")
        requests = rows["request"] if "request" in rows else int(owner[-1]) + 1 if owner.size else 0
        counts = counts_of(owner, requests) if owner.dtype == np.int64 and owner.shape == (rows["candidate"],) else None
        if counts is None:
            raise BadRequestError(
                f"{OWNER} does not say whose of {requests} requests each of {rows['candidate']} rows is"
            )
        return counts

    def _run(self, joined: Inputs, counts: NDArray[np.int64]) -> JaggedScores:
        """Score joined requests of so many candidates each."""
        candidates = len(joined[self._tensors[-1].name])
        request_blocks = _blocks(joined, "request", len(counts))
        candidate_blocks = _blocks(joined, "candidate", candidates)
        request, candidate = self._request.encode(*request_blocks), self._candidate.encode(*candidate_blocks)
        probability = self._engine.run(request.rows, candidate.rows, counts, joined.get(HISTORY))
        unknown = np.full(len(counts), request.unknown + candidate.unknown, np.int32)
        if len(counts) > 1 and unknown[0]:
            per_candidate = self._candidate.unknown_per_row(candidate_blocks[0], candidate.rows)
            summed, ends = np.concatenate(([0], per_candidate.cumsum())), counts.cumsum()
            unknown[:] = self._request.unknown_per_row(request_blocks[0], request.rows)
            unknown += summed[ends] - summed[ends - counts]
        return JaggedScores(probability, unknown)

    def warm_up(self, golden: Mapping[str, NDArray[Any]], sizes: Sequence[int]) -> None:
        """Score the golden request at its own size, hold it to its known answer, then run it at other sizes.

        Raises:
            NotServableError: the scores are not what the export computed.
        """
        request = {tensor.name: golden[tensor.name] for tensor in self._tensors}
        made, exact = self.score([request])[0].probability, golden[PROBABILITY]
        off, bound = np.abs(made - exact).max(), self._file.golden_bound
        if not off <= bound:
            raise NotServableError(f"golden.npz: probabilities are off by {off:.3g}, the bound is {bound}")
        # Where all of them are small, so is every difference.
        loss, most = ne_loss(made, exact), self._file.golden_ne_loss
        if not loss <= most:
            raise NotServableError(f"golden.npz: its NE is {loss:.2%} above torch's, the bound is {most:.2%}")
        for size in sizes:
            shaped = {n: np.resize(v, (size, v.shape[1])) if n.startswith("c") else v for n, v in request.items()}
            self.score([shaped])


def ne_loss(made: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Relative increase of normalized entropy, of the worst task; both [M, T]. NaN where one is not a number.

    Were the exact probabilities p the truth, log loss would be H(p) with them and H(p) + KL(p, q) with q instead, and
    the base rate's entropy the same for both: so the relative increase of NE is mean KL / mean H, no labels needed.
    """
    p, q = (np.clip(values.astype(np.float64), _CLIP, 1 - _CLIP) for values in (exact, made))
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return float((divergence.mean(axis=0) / entropy.mean(axis=0)).max())


def counts_of(owner: NDArray[np.int64], requests: int) -> NDArray[np.int64] | None:
    """Candidates of each request, int64 [B]; None unless `owner` goes from 0 to B - 1 by steps of 0 and 1."""
    if not owner.size or owner[0] != 0 or owner[-1] != requests - 1:
        return None
    if requests == 1:
        return None if np.count_nonzero(owner) else np.array([len(owner)], np.int64)
    steps = (owner[1:] - owner[:-1]).view(np.uint64)
    return None if np.count_nonzero(steps > 1) else np.bincount(owner, minlength=requests)


def _blocks(joined: Inputs, group: str, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A group's ids and numbers; an absent one has width 0."""
    ids, numbers = joined.get(f"{group}_ids"), joined.get(f"{group}_numbers")
    return (
        np.empty((rows, 0), DTYPES["ids"]) if ids is None else ids,
        np.empty((rows, 0), DTYPES["numbers"]) if numbers is None else numbers,
    )


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _describe(value: NDArray[Any]) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _expected(tensor: Tensor) -> str:
    shape = f"[1, N, {tensor.width}]" if tensor.name.startswith("candidate") else f"[1, {tensor.width}]"
    return f"{DTYPES[tensor.kind]} {shape}"
