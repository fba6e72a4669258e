"""What the linter says."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "advice"]
"""It will not serve, or not what was published; it will miss budgets; it could be better."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a configuration.

    Attributes:
        rule: stable name.
        severity: how much it matters.
        what: what is there, in one line.
        effect: what happens because of it.
        mend: what to write instead.
    """

    rule: str
    severity: Severity
    what: str
    effect: str
    mend: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
