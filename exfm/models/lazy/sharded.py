"""A table in parts, each with a range of the rows in a folder, and a process, of its own: when one disk is the limit.

Rows are asked of the parts that have them, all at once. A step happens in all parts or in none. A commit is written by
all parts, and counts once the first folder's `shards.json` names it; so parts never stand at different commits.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from exfm.models.lazy.commits import Commits, write_durably
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.fields import count_in, object_in, read_fields
from exfm.models.lazy.form import STATES, Floats, TableForm, form_of
from exfm.models.lazy.process import Shard
from exfm.models.lazy.records import Ints

INDEX = "shards.json"
"""The file in the first folder that says what the table is and which commit is its last."""
Call = tuple[Shard, tuple[Any, ...]]


class ShardedTable:
    """See `exfm.models.lazy.form.Table`.

    Args:
        folders: one per part, on as many disks as one likes; their order counts.
        form: of the whole table; it has no fewer rows than folders.

    Raises:
        LazyTableError: a part can't be opened, or the folders are those of another table.
    """

    def __init__(self, folders: Sequence[Path], form: TableForm) -> None:
        self.form, self.folders = form, tuple(folders)
        self.number = _last(self.folders, form)
        """Of the last commit; 0 if there is none."""
        self._span = -(-form.rows // len(folders))
        self._torn = ""
        self.shards: list[Shard] = []
        """The parts' processes."""
        try:
            for number, folder in enumerate(self.folders):
                self.shards.append(Shard(folder, _part(form, number * self._span, self._span), self.number))
            self.note: bytes = _results([_answer(shard) for shard in self.shards])[0]
            """What the last commit was given to keep."""
        except BaseException:
            self.close()
            raise

    @property
    def logical_bytes(self) -> int:
        return sum(self._all("logical_bytes"))

    @property
    def real_bytes(self) -> int:
        return sum(self._all("real_bytes"))

    def read(self, rows: Ints) -> tuple[Floats, Floats]:
        parts = self._parts(rows)
        answers = _results(self._outcomes([(shard, ("read", rows[place])) for shard, place in parts]))
        values, states = np.empty((len(rows), self.form.width), "f4"), np.empty((len(rows), STATES), "f4")
        for (_, place), (value, state) in zip(parts, answers, strict=True):
            values[place], states[place] = value, state
        return values, states

    def learn(self, rows: Ints, change: Floats, states: Floats) -> None:
        parts = self._parts(rows)
        calls: list[Call] = [(shard, ("learn", rows[place], change[place], states[place])) for shard, place in parts]
        outcomes = self._outcomes(calls)
        if any(isinstance(each, LazyTableError) for each in outcomes):
            self._undo([shard for (shard, _), each in zip(parts, outcomes, strict=True) if each is None])
        _results(outcomes)

    def commit(self, note: bytes = b"") -> int:
        notes = [note, *[b""] * (len(self.shards) - 1)]
        _results(self._outcomes([(shard, ("prepare", each)) for shard, each in zip(self.shards, notes, strict=True)]))
        write_index(self.folders, self.form, self.number + 1)
        self.number, self.note = self.number + 1, note
        # It counts by now: a part that fails here comes back at this commit.
        self._outcomes([(shard, ("settle", each)) for shard, each in zip(self.shards, notes, strict=True)])
        return self.number

    def close(self) -> None:
        for shard in self.shards:
            shard.close()

    def _parts(self, rows: Ints) -> list[tuple[Shard, Ints]]:
        """Which parts have some of int64 [N] rows, and where among them those stand."""
        owner = self.form.places(rows, self.folders[0]) // self._span
        return [(self.shards[each], np.flatnonzero(owner == each)) for each in np.unique(owner).tolist()]

    def _all(self, *message: Any) -> list[Any]:
        return _results(self._outcomes([(shard, message) for shard in self.shards]))

    def _outcomes(self, calls: Sequence[Call]) -> list[Any]:
        """Ask different parts at once: what each of them says, or its error."""
        died = [shard.died for shard in self.shards if shard.died]
        if died or self._torn:
            raise LazyTableError(died[0] if died else self._torn)
        for shard, message in calls:
            shard.ask(*message)
        return [_answer(shard) for shard, _ in calls]

    def _undo(self, done: Sequence[Shard]) -> None:
        """Take a step back in the parts that did it; unless one died, for then the last commit is all there is."""
        if any(shard.died for shard in self.shards):
            return
        failed = [each for each in self._outcomes([(shard, ("undo",)) for shard in done]) if each is not None]
        self._torn = f"{failed[0]}; open the table again, at its last commit" if failed else ""


def _answer(shard: Shard) -> Any:
    try:
        return shard.answer()
    except LazyTableError as error:
        return error


def _results(outcomes: list[Any]) -> list[Any]:
    """The same, if none of them is an error."""
    for each in outcomes:
        if isinstance(each, LazyTableError):
            raise each
    return outcomes


def _part(form: TableForm, first: int, rows: int) -> TableForm:
    return replace(form, first=first, rows=min(rows, form.rows - first))


def _last(folders: tuple[Path, ...], form: TableForm) -> int:
    """The table's last commit; a fresh one has an index first, so that commits without one are noticed."""
    index = folders[0] / INDEX
    if not index.exists():
        if held := [folder for folder in folders if Commits(folder, form.size).paths()]:
            raise LazyTableError(f"{held[0]}: there are commits here, but no {index}; which of them count?")
        index.parent.mkdir(parents=True, exist_ok=True)
        write_index(folders, form, 0)
    found = read_fields(index)
    there, parts = form_of(index, object_in(index, found, "form")), count_in(index, found, "parts", 1)
    number = count_in(index, found, "number")
    if (there, parts) != (form, len(folders)):
        raise LazyTableError(f"{index}: the table was made as {there}, in {parts} parts")
    return number


def write_index(folders: Sequence[Path], form: TableForm, number: int) -> None:
    """Say which commit counts; `LazyTableError`: that didn't change."""
    plain = {"form": asdict(form), "parts": len(folders), "number": number}
    write_durably(folders[0] / INDEX, [json.dumps(plain).encode() + b"\n"])
