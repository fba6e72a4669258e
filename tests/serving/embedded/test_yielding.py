import os
from pathlib import Path

import pytest

from serving.embedded.yielding import may_yield
from tests.forked import in_child


def test_who_tried_has_its_turns_as_before() -> None:
    before = os.sched_getscheduler(0)
    may_yield()
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("there", [(), ("flock",)], ids=["none", "no chrt"])
def test_without_the_programs_nobody_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: tuple[str, ...]
) -> None:
    for name in there:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not may_yield()


def test_without_the_privilege_nobody_may() -> None:
    in_child(lambda: not may_yield(), unprivileged=True)
