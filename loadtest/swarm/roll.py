"""Who takes part in a run, and what each has handed in. A run of which anything is missing counts for nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.swarm.part import Part


@dataclass
class Roll:
    """The processes of one run.

    Attributes:
        members: number of each process that was there when the run began, by its name.
        parts: what was handed in, by name.
        refused: why a process could not begin, by name.
        lost: members that went missing before they had handed anything in.
        strangers: processes that came after the run had begun, and so took some of the others' streams.
    """

    members: dict[str, int]
    parts: dict[str, Part] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)

    def hand_in(self, name: str, plain: Mapping[str, Any]) -> None:
        """Take a process's part, or why it has none."""
        if name not in self.members:
            self.strangers.add(name)
        elif "refused" in plain:
            self.refused[name] = str(plain["refused"])
        else:
            self.parts[name] = Part.from_plain(plain)

    def look(self, present: Collection[str]) -> None:
        """Note who has gone missing or has come since; `present` are the names of those that are there."""
        self.lost |= self.waited_for() - set(present)
        self.strangers |= set(present) - set(self.members)

    def waited_for(self) -> set[str]:
        """Members from which something is still to come."""
        return set(self.members) - set(self.parts) - set(self.refused) - self.lost

    def total(self, empty: Part) -> Part:
        """All parts together, added to an empty one."""
        for part in self.parts.values():
            empty.merge(part)
        return empty

    def faults(self) -> tuple[str, ...]:
        """Why the load was not what it says; empty if every request that was owed was sent and has ended."""
        said = []
        for name, number in self.members.items():
            which = f"process {number + 1} of {len(self.members)}" if len(self.members) > 1 else "the process"
            if name in self.lost:
                said.append(f"{which} went missing")
            elif name in self.refused:
                said.append(f"{which} could not begin: {self.refused[name]}")
            elif name not in self.parts:
                said.append(f"{which} handed nothing in")
            elif (part := self.parts[name]).sent != part.owed:
                said.append(f"{which} sent {part.sent:,} of the {part.owed:,} requests that it owed")
        if self.strangers:
            said.append(f"{len(self.strangers)} joined after the others had begun")
        return tuple(said)
