"""Who gets in: examples, and the invariants under any sequence of events."""

import math
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.admission.fixed import FixedLaw
from serving.admission.gate import Gate
from serving.admission.law import Sample
from serving.admission.permit import Outcome, Permit
from serving.admission.priority import Priority
from serving.admission.shares import DEFAULT_SHARES

LIVE, NORMAL, SHADOW = Priority


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def fake() -> Clock:
    return Clock()


@pytest.fixture
def gate(fake: Clock) -> Gate:
    """A limit of 100 ms: guaranteed are 70, 20 and 10."""
    return Gate(FixedLaw(0.1), parallelism=2, clock=fake)


def fill(gate: Gate, cost_s: float, priority: Priority) -> list[Permit]:
    """Permits until one is refused."""
    return list(iter(lambda: gate.try_enter(cost_s, priority), None))


def enter(gate: Gate, cost_s: float, priority: Priority = LIVE) -> Permit:
    permit = gate.try_enter(cost_s, priority)
    assert permit is not None
    return permit


def test_the_wait_ahead_is_what_is_in_flight_over_what_is_served_at_once(gate: Gate) -> None:
    held = [enter(gate, 0.03), enter(gate, 0.01)]
    assert (gate.in_flight_s, gate.ahead_s, gate.limit_s) == pytest.approx((0.04, 0.02, 0.1))
    gate.parallelism = 1
    assert gate.ahead_s == pytest.approx(0.04)
    assert gate.used_s(LIVE) == pytest.approx(0.04)
    for permit in held:
        permit.succeed()
    assert gate.ahead_s == 0.0


@pytest.mark.parametrize("priority", Priority)
def test_alone_any_priority_may_have_everything(gate: Gate, priority: Priority) -> None:
    assert len(fill(gate, 0.01, priority)) == 10
    assert gate.counts()[priority, Outcome.REFUSED] == 1


def test_larger_than_the_limit_enters_alone_only(gate: Gate) -> None:
    small = enter(gate, 0.001)
    assert gate.try_enter(0.5, LIVE) is None
    small.succeed()
    large = enter(gate, 0.5)
    assert gate.try_enter(0.001, LIVE) is None
    large.succeed()
    enter(gate, 0.001).succeed()


@pytest.mark.parametrize(("asks", "share"), [(NORMAL, 2), (SHADOW, 1)])
def test_what_live_borrowed_comes_back_as_its_permits_end(gate: Gate, asks: Priority, share: int) -> None:
    live = fill(gate, 0.01, LIVE)
    held = []
    for permit in live[:share]:
        assert gate.try_enter(0.01, asks) is None
        permit.succeed()
        assert gate.try_enter(0.01, LIVE) is None, "live must not take again what is claimed"
        held.append(enter(gate, 0.01, asks))
    live[share].succeed()
    assert gate.try_enter(0.01, asks) is None, "beyond its share it has to wait for live"
    enter(gate, 0.01, LIVE).succeed()


def test_live_gets_its_share_back_from_those_below(gate: Gate) -> None:
    shadow, above = fill(gate, 0.01, SHADOW), []
    for permit in shadow[:7]:
        assert gate.try_enter(0.01, LIVE) is None
        permit.succeed()
        assert gate.try_enter(0.01, SHADOW) is None, "shadow does not borrow while another waits"
        above.append(enter(gate, 0.01, LIVE))
    assert gate.try_enter(0.01, LIVE) is None
    shadow[7].succeed()
    above.append(enter(gate, 0.01, NORMAL))


def test_shadow_borrows_again_once_nobody_has_waited_for_a_while(gate: Gate, fake: Clock) -> None:
    live = fill(gate, 0.01, LIVE)
    for permit in live[:5]:
        permit.succeed()
    shadow = enter(gate, 0.01, SHADOW)
    assert gate.try_enter(0.01, SHADOW) is None
    fake.now_s += 0.2
    enter(gate, 0.01, SHADOW).succeed()
    shadow.succeed()


def test_a_claim_lapses_when_its_owner_does_not_come_back(gate: Gate, fake: Clock) -> None:
    live = fill(gate, 0.01, LIVE)
    assert gate.try_enter(0.01, NORMAL) is None
    live[0].succeed()
    assert gate.try_enter(0.01, LIVE) is None
    fake.now_s += 0.2
    enter(gate, 0.01, LIVE).succeed()


class Settable(FixedLaw):
    """A law that is moved by hand."""

    def set(self, limit_s: float) -> None:
        self._limit_s = limit_s


def test_a_limit_that_falls_takes_nothing_back_but_lets_nobody_in(fake: Clock) -> None:
    law = Settable(0.1)
    gate = Gate(law, clock=fake)
    held = fill(gate, 0.01, LIVE)
    law.set(0.05)
    assert gate.in_flight_s == pytest.approx(0.1)
    for permit in held[:5]:
        assert gate.try_enter(0.01, LIVE) is None
        permit.succeed()
    assert gate.try_enter(0.01, LIVE) is None
    held[5].succeed()
    enter(gate, 0.01, LIVE).succeed()


def test_wrong_arguments_are_refused(gate: Gate) -> None:
    for cost_s in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="cost_s"):
            gate.try_enter(cost_s, LIVE)
    for shares in ({LIVE: 0.9, NORMAL: 0.2}, {LIVE: -0.1}):
        with pytest.raises(ValueError, match="shares"):
            Gate(FixedLaw(0.1), shares)
    with pytest.raises(ValueError, match="parallelism"):
        Gate(FixedLaw(0.1), parallelism=0)


ENDS: list[Callable[[Permit], None]] = [Permit.succeed, Permit.ignore, Permit.drop]
COSTS = st.integers(1, 30).map(lambda ms: ms / 1e3)


class GateMachine(RuleBasedStateMachine):
    """Any sequence of entries, ends, leaks, limits and time keeps the gate's promises."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.law = Clock(), Settable(0.1)
        self.gate = Gate(self.law, clock=self.clock)
        self.held: list[tuple[Permit, float, Priority]] = []
        self.top_s = 0.1
        """What may be in flight at most: the limit, or what was inside when it fell or a lone large one entered."""

    def used_s(self, priority: Priority) -> float:
        return sum(cost_s for _, cost_s, owner in self.held if owner is priority)

    def total_s(self) -> float:
        return sum(cost_s for _, cost_s, _ in self.held)

    def hold(self, permit: Permit, cost_s: float, priority: Priority) -> None:
        alone = not self.held
        self.held.append((permit, cost_s, priority))
        assert alone or self.total_s() <= self.law.limit_s + 1e-9

    @rule(cost_s=COSTS, priority=st.sampled_from(Priority))
    def ask(self, cost_s: float, priority: Priority) -> None:
        share_s = DEFAULT_SHARES[priority] * self.law.limit_s
        inside = self.used_s(priority) + cost_s <= share_s - 1e-9
        others = all(self.used_s(p) <= DEFAULT_SHARES[p] * self.law.limit_s for p in Priority if p is not priority)
        room_s, alone = self.gate.room_s(priority), not self.held
        permit = self.gate.try_enter(cost_s, priority)
        assert permit or cost_s > room_s - 1e-9, "the room that was told is there"
        assert not permit or alone or cost_s <= room_s + 1e-9, "and there is no more"
        if permit:
            self.hold(permit, cost_s, priority)
        else:
            assert not (inside and others), "nobody borrows, so the guaranteed share must be there"

    @precondition(lambda self: self.held)
    @rule(cost_s=COSTS, priority=st.sampled_from(Priority), data=st.data())
    def ask_until_let_in(self, cost_s: float, priority: Priority, data: st.DataObject) -> None:
        """A share is reached by asking again as others' permits end, however eager the others are."""
        share_s = DEFAULT_SHARES[priority] * self.law.limit_s
        if self.used_s(priority) + cost_s > share_s - 1e-9:
            return
        for _ in range(len(self.held) + 1):
            permit = self.gate.try_enter(cost_s, priority)
            if permit:
                self.hold(permit, cost_s, priority)
                return
            theirs = [entry for entry in self.held if entry[2] is not priority]
            # By place: what is drawn is kept for the report, and a permit that is kept never leaks.
            gone = theirs[data.draw(st.integers(0, len(theirs) - 1))]
            del theirs
            self.held.remove(gone)
            gone[0].succeed(0.001)
            eager = data.draw(st.sampled_from([p for p in Priority if p is not priority]))
            again = self.gate.try_enter(gone[1], eager)
            if again:
                self.hold(again, gone[1], eager)
                # Only by right may anyone go first now.
                assert self.used_s(eager) <= DEFAULT_SHARES[eager] * self.law.limit_s + 1e-9 or self.room_for(cost_s)

    def room_for(self, cost_s: float) -> bool:
        return self.total_s() + cost_s <= self.law.limit_s + 1e-9

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(ENDS))
    def end(self, data: st.DataObject, how: Callable[[Permit], None]) -> None:
        permit, _, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        how(permit)
        how(permit)

    @precondition(lambda self: self.held)
    @rule()
    def leak(self) -> None:
        before = sum(self.gate.counts()[p, Outcome.LEAKED] for p in Priority)
        self.held.pop()
        assert sum(self.gate.counts()[p, Outcome.LEAKED] for p in Priority) == before + 1

    @rule(limit_ms=st.integers(5, 200))
    def move_limit(self, limit_ms: int) -> None:
        self.law.set(limit_ms / 1e3)

    @rule(seconds=st.sampled_from([0.01, 0.09, 0.2]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @invariant()
    def in_flight_is_what_is_held(self) -> None:
        assert self.gate.in_flight_s == pytest.approx(self.total_s(), abs=1e-9)
        assert self.gate.ahead_s == pytest.approx(self.total_s(), abs=1e-9)
        for priority in Priority:
            assert self.gate.in_flight(priority) == sum(owner is priority for _, _, owner in self.held)

    @invariant()
    def counters_add_up(self) -> None:
        counts = self.gate.counts()
        for priority in Priority:
            ended = sum(counts[priority, end] for end in (Outcome.SUCCEEDED, Outcome.IGNORED, Outcome.DROPPED))
            assert counts[priority, Outcome.ENTERED] == ended + sum(o is priority for _, _, o in self.held)
            assert counts[priority, Outcome.LEAKED] <= counts[priority, Outcome.IGNORED]


GateMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestGateMachine = GateMachine.TestCase


def test_a_sample_carries_the_cost_not_the_count(fake: Clock) -> None:
    heard: list[Sample] = []

    class Law(FixedLaw):
        def update(self, sample: Sample) -> float:
            heard.append(sample)
            return self.limit_s

    gate = Gate(Law(0.1), clock=fake)
    enter(gate, 0.02).succeed(0.03)
    assert heard == [Sample(0.03, 0.02, 0.02)]
