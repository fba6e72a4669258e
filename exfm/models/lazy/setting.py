"""`lazy:FOLDER?buckets=N`: where a lazy table lies, and how large it is, as a user says it."""

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from exfm.features.schema import Feature, Schema
from exfm.models.lazy.commits import Commits
from exfm.models.lazy.form import Table, TableForm
from exfm.models.lazy.frozen import thaw
from exfm.models.lazy.sharded import INDEX, ShardedTable, write_index
from exfm.models.lazy.table import LazyTable, remove_table

_SCHEME = "lazy:"


class LazySettingError(ValueError):
    """It is no such setting; the message says what is wrong with it."""


@dataclass(frozen=True)
class LazySetting:
    """A table in a folder, or in parts, each in its folder.

    Attributes:
        folders: at least one, all different.
        buckets: table rows of each `id` of the schema; 0: as the schema says.
    """

    folders: tuple[Path, ...]
    buckets: int = 0

    @classmethod
    def parse(cls, text: str) -> "LazySetting":
        """`lazy:FOLDER[,FOLDER...][?buckets=N]`; `LazySettingError` if it is anything else."""
        places, _, query = text.removeprefix(_SCHEME).partition("?")
        folders = tuple(Path(each) for each in places.split(","))
        if not text.startswith(_SCHEME) or not all(places.split(",")):
            raise LazySettingError(f"{text!r} is not of the form lazy:FOLDER[,FOLDER...][?buckets=N]")
        if len(set(folders)) < len(folders):
            raise LazySettingError(f"{text!r} names a folder twice; each part has its own")
        try:
            asked = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
            buckets = int(asked.pop("buckets", "0"))
        except ValueError as error:
            raise LazySettingError(f"{text!r}: {error}") from error
        if asked:
            raise LazySettingError(f"{text!r}: {min(asked)!r} is not known; buckets is")
        if buckets and not 2 <= buckets < 1 << 48:
            raise LazySettingError(f"{text!r}: buckets must be 2 to {(1 << 48) - 1}")
        return cls(folders, buckets)

    def open(self, form: TableForm) -> Table:
        """The table, in this process or in one per part; `LazyTableError` if it can't be."""
        if len(self.folders) == 1:
            return LazyTable(self.folders[0], form)
        return ShardedTable(self.folders, form)

    def committed(self, form: TableForm) -> bool:
        """Whether some table has commits there; empty ones are nobody's, a run that had learned nothing left them."""
        return any(Commits(folder, form.size).hold_rows() for folder in self.folders)

    def restore(self, frozen: Path, form: TableForm) -> None:
        """Make the closed table what a frozen one is; `LazyTableError` if it can't be.

        Cut off, it leaves a table that opens, as another one than the frozen: to be restored again.
        """
        if len(self.folders) > 1:
            write_index(self.folders, form, 0)  # so none of what lies there meanwhile counts
        for folder in self.folders:
            remove_table(folder)
        number = thaw(frozen, self.folders)
        if len(self.folders) > 1:
            write_index(self.folders, form, number)

    def remove(self) -> None:
        """Remove the closed table."""
        (self.folders[0] / INDEX).unlink(missing_ok=True)
        for folder in self.folders:
            remove_table(folder)


def hashed_into(schema: Schema, buckets: int) -> Schema:
    """The same schema with all ids hashed into so many rows; with 0, the schema itself."""

    def resized(feature: Feature) -> Feature:
        return replace(feature, buckets=buckets) if feature.kind == "id" else feature

    return replace(schema, features=tuple(resized(each) for each in schema.features)) if buckets else schema
