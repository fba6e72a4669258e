"""The control of LoopFM: the same student over the ads themselves that a user saw, without any teacher's embedding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exfm.data.histories import Histories
from exfm.features.schema import Schema
from exfm.models.history import HistoryEncoder
from exfm.models.student import Student

OPTIONS: dict[str, Any] = {"pooling": "mean", "tokens": 2}
"""Of both arms' encoders."""


class RawStudent(Student):
    """A past impression is the mean of its ad's embeddings in the student's own table; all else is alike.

    Its history input is int64 [B, L * (ad features + 2)]: the events' table rows, then flags, then ages in seconds.
    """

    def __init__(self, schema: Schema, backbone: str, dimension: int, options: Any, history: Any) -> None:
        super().__init__(schema, backbone, dimension, options, history)
        assert self.history is not None
        assert schema.history is not None
        self._length = schema.history.length
        self.history.encoder = HistoryEncoder(dimension, self.history.count * dimension, self.history.encoder.pooling)

    def _split_request(self, request: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        embeddings, first = self.table.split(request)
        assert self.history is not None
        assert history is not None
        return torch.cat([embeddings, self._past(history)], 1), first

    def _past(self, history: Tensor) -> Tensor:
        rows, known, age_s = history.tensor_split((-2 * self._length, -self._length), 1)
        ads = rows.reshape(len(history) * self._length, -1)
        values = self.table.split(self.table(ads))[0].mean(1).reshape(len(history), self._length, -1)
        present = (known > 0).unsqueeze(2)
        made: Tensor = self.history.encoder(values * present, known > 0, age_s.float())  # type: ignore[union-attr]
        return made.reshape(len(history), -1, values.shape[2])


@dataclass(frozen=True)
class RawHistories:
    """The same events in the same places as in `histories`.

    Attributes:
        histories: of all rows.
        candidate: int64 [N, ad features], table rows of each row's ad.
        time_ms: int64 [N].
    """

    histories: Histories
    candidate: NDArray[np.int64]
    time_ms: NDArray[np.int64]

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The input of `RawStudent` for some rows."""
        seen = self.histories.seen(index)
        known = seen >= 0
        age_s = np.where(known, (self.time_ms[index][:, None] - self.time_ms[seen]) // 1000, 0)
        return np.concatenate([self.candidate[seen].reshape(len(index), -1), known, age_s], 1)
