"""What Triton's Python backend runs for one published version.

Lies in the version folder beside the engine's files, the schema and copies of the encoding and of this package, and
needs only numpy below 2 and what the engine needs.
"""

import os
import sys

# What lies beside this file goes before any other that the server's working directory may offer.
sys.path.insert(0, os.path.dirname(__file__))

import exporter.runner.early

# isort: split
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

import exfm.features
from exfm.features.schema import Schema
from exfm.features.signature import OWNER, PROBABILITY, UNKNOWN, tensors_of
from exporter.runner.aside import load, serves, yield_to_all
from exporter.runner.scorer import BadRequestError, Inputs, NotServableError, Scorer, Scores

TURN = "EXFM_STUB_TURN"
"""Number of an open file of the version's folder, locked as a rule: `serving/embedded/start_stub.sh`."""
ASK_FROM_CANDIDATES = 1000
"""From this size on a request is asked whether it was cancelled: the question takes Triton 0.1 ms, about as long as
scoring 60 candidates, and Triton has itself dropped what was cancelled while it waited in the queue."""


def check_numpy(version: str) -> None:
    """Refuse numpy 2 and later: with it, this backend answers empty tensors without an error."""
    if int(version.split(".", maxsplit=1)[0]) >= 2:
        raise NotServableError(f"numpy {version} in the server's environment: the Python backend needs numpy below 2")


def check_schema(schema: Schema, expected: str) -> None:
    """Refuse a version whose schema is not the one that config.pbtxt speaks of."""
    if schema.digest != expected:
        raise NotServableError(f"schema.json has digest {schema.digest}, config.pbtxt says schema_hash {expected!r}")


def check_origin(folder: Path) -> None:
    """Refuse an encoding or a runner that is not the version's own."""
    for package in (exfm.features, exporter.runner):
        if folder.resolve() not in Path(package.__path__[0]).resolve().parents:
            raise NotServableError(f"the {package.__name__} in use lies in {package.__path__[0]}, not in {folder}")


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """One process after the other for that folder: a version's instances that load at once would share caches and
    memory with the one that serves, and with each other. Whoever started the process may have taken its turn for it."""
    given = os.environ.pop(TURN, "")
    handle = int(given) if given else os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class TritonPythonModel:
    """The entry points that Triton's Python backend calls."""

    _serving: int | None = None

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load and prove the version; raises `NotServableError` where it must not serve."""
        check_numpy(np.__version__)
        folder = Path(args["model_repository"]) / args["model_version"]
        check_origin(folder)
        config = json.loads(args["model_config"])
        with in_turn(folder):
            load(str(folder), lambda: self._load(folder, config))
            # Before the folder's lock is given back: a version without either of the two may be pruned.
            self._serving = serves(str(folder))

    def finalize(self) -> None:
        """Nothing is left to serve: let others go first while the process ends, which takes the kernel a while."""
        if self._serving is not None:
            os.close(self._serving)
        yield_to_all()

    def _load(self, folder: Path, config: Mapping[str, Any]) -> None:
        schema = Schema.load(folder / "schema.json")
        check_schema(schema, config["parameters"]["schema_hash"]["string_value"])
        self._last = tensors_of(schema)[-1].name
        self._scorer = Scorer(folder, schema)
        most = max(vertical.max_candidates for vertical in schema.verticals)
        with np.load(folder / "golden.npz") as golden:
            self._scorer.warm_up(golden, [1, most])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request, in the form that config.pbtxt has: a jagged batch, or one request among others."""
        given = [_read(request) for request in requests]
        if given and OWNER in given[0]:
            return [self._score_jagged(request, inputs) for request, inputs in zip(requests, given, strict=True)]
        return self._score_each(requests, given)

    def _score_jagged(self, request: Any, joined: Inputs) -> Any:
        """The answer to a batch that the caller has formed."""
        owner = joined[OWNER]
        if len(owner) >= ASK_FROM_CANDIDATES and request.is_cancelled():
            return _error("the caller cancelled the request", pb_utils.TritonError.CANCELLED)
        try:
            scores = self._scorer.score_jagged(joined, owner)
        except BadRequestError as error:
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        return _response(scores.probability, scores.unknown)

    def _score_each(self, requests: Sequence[Any], given: Sequence[Inputs]) -> list[Any]:
        """Answers to a batch that Triton has formed; a bad or cancelled one of it leaves the others alone."""
        answers: list[Any] = [None] * len(requests)
        live: list[int] = []
        batch: list[Inputs] = []
        for place, request in enumerate(requests):
            try:
                inputs = self._scorer.check(given[place])
                if len(inputs[self._last]) >= ASK_FROM_CANDIDATES and request.is_cancelled():
                    answers[place] = _error("the caller cancelled the request", pb_utils.TritonError.CANCELLED)
                    continue
                batch.append(inputs)
                live.append(place)
            except BadRequestError as error:
                answers[place] = _error(str(error), pb_utils.TritonError.INVALID_ARG)
        if batch:
            for place, scores in zip(live, self._scorer.score(batch), strict=True):
                answers[place] = _answer(scores)
        return answers


def _read(request: Any) -> Inputs:
    """All tensors at once: each question for one by its name would have Triton list them all again."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _answer(scores: Scores) -> Any:
    return _response(scores.probability[None], np.array([[scores.unknown]], np.int32))


def _response(probability: Any, unknown: Any) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(PROBABILITY, probability), pb_utils.Tensor(UNKNOWN, unknown)])


def _error(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
