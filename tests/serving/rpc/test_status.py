import re
from pathlib import Path

import grpc
import pytest

from serving.errors import (
    BackendError,
    OverloadedError,
    RefusalError,
    ServerFailedError,
    UnknownVerticalError,
    UnreachableError,
)
from serving.ladder.tier import FORESEEN, REASON_OF, Reason, Tier
from serving.rpc.status import CODE_OF, error_of, trailers_of

PAGE = (Path(__file__).parents[3] / "docs/status.md").read_text(encoding="utf-8")


def _rows(title: str) -> list[list[str]]:
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (mine,) = [part for part in section if part.startswith(title)]
    lines = [line for line in mine.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_every_refusal_with_its_status() -> None:
    said = {(row[1], row[0]) for row in _rows("Refusals")}
    held = {(error.__name__, code.name) for error, code in CODE_OF.items()}
    assert said == held | {("UnreachableError", "UNAVAILABLE"), ("ServerFailedError", "INTERNAL")}


def test_the_page_has_every_reason_for_a_lesser_tier() -> None:
    said = [(row[0], row[1]) for row in _rows("Rankings")]
    lesser = {(Tier.PRIOR.wire_name, reason.value) for reason in Reason if reason}
    lesser |= {(Tier.TRIMMED.wire_name, reason.value) for reason in FORESEEN}
    assert set(said) == lesser | {(Tier.FULL.wire_name, "(empty)")}
    assert len(said) == len(set(said))


def test_every_refusal_has_a_status_and_every_backend_failure_a_reason() -> None:
    assert set(CODE_OF) == set(RefusalError.__subclasses__())
    assert set(REASON_OF) == set(BackendError.__subclasses__())


def test_a_status_leads_back_to_its_error() -> None:
    for kind, code in CODE_OF.items():
        error = error_of(code, "why", ())
        assert type(error) is kind
        assert str(error) == "why"
    assert type(error_of(grpc.StatusCode.UNAVAILABLE, "", ())) is UnreachableError
    assert str(error_of(grpc.StatusCode.INTERNAL, "x", ())) == "INTERNAL: x"
    assert type(error_of(grpc.StatusCode.INTERNAL, "x", ())) is ServerFailedError


@pytest.mark.parametrize(("sent", "read"), [("30", 30), ("-1", -1), ("soon", -1)])
def test_pushback_is_read_as_the_retry_contract_says(sent: str, read: int) -> None:
    error = error_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", sent),))
    assert isinstance(error, OverloadedError)
    assert error.pushback_ms == read


def test_pushback_travels_as_a_trailer_of_overload_only() -> None:
    assert trailers_of(OverloadedError("full", 40)) == (("grpc-retry-pushback-ms", "40"),)
    assert trailers_of(OverloadedError("full")) == (("grpc-retry-pushback-ms", "-1"),)
    assert trailers_of(OverloadedError("full", None)) == ()
    assert trailers_of(UnknownVerticalError("x")) == ()
