"""A run counts only if every process that began it handed in every request that it owed."""

from collections.abc import Callable

import pytest

from loadtest.driving.target import Reply
from loadtest.swarm.part import Part
from loadtest.swarm.roll import Roll


def part(owed: int, sent: int) -> Part:
    made = Part(0.025, 1.0, owed=owed)
    for index in range(sent):
        made.add(index / 100, 0, Reply(True, "full"), 0.004, 0.0)
    return made


def two() -> Roll:
    roll = Roll({"a": 0, "b": 1})
    roll.hand_in("a", part(120, 120).plain())
    return roll


def test_whole_parts_of_all_are_a_run() -> None:
    roll = two()
    roll.look({"a", "b"})
    assert roll.waited_for() == {"b"}
    roll.hand_in("b", part(7, 7).plain())
    roll.look({"a"})  # who has done its part may go
    assert roll.waited_for() == set()
    assert roll.faults() == ()
    assert roll.total(Part(0.025, 1.0)).sent == 127


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lambda roll: roll.look({"a"}), "process 2 of 2 went missing"),
        (lambda _: None, "process 2 of 2 handed nothing in"),
        (lambda roll: roll.hand_in("b", part(120, 119).plain()), "process 2 of 2 sent 119 of the 120 requests"),
        (lambda roll: roll.hand_in("b", {"refused": "no server"}), "process 2 of 2 could not begin: no server"),
        (lambda roll: roll.hand_in("c", part(9, 9).plain()), "1 joined after the others had begun"),
        (lambda roll: roll.look({"a", "b", "c"}), "1 joined after the others had begun"),
    ],
)
def test_whatever_is_missing_or_too_many_is_named(happens: Callable[[Roll], None], said: str) -> None:
    roll = two()
    happens(roll)
    assert any(fault.startswith(said) for fault in roll.faults())


def test_who_went_missing_stays_so_and_is_not_waited_for() -> None:
    roll = two()
    roll.look({"a"})
    assert roll.waited_for() == set()
    roll.hand_in("b", part(7, 7).plain())
    assert roll.faults() == ("process 2 of 2 went missing",)


def test_a_lone_process_is_held_to_its_debt_too() -> None:
    roll = Roll({"local": 0})
    roll.hand_in("local", part(10, 4).plain())
    assert roll.faults() == ("the process sent 4 of the 10 requests that it owed",)
