import numpy as np
import pytest

from loadtest.driving.target import Reply
from loadtest.peers.caller import CheckedTarget, Probability, RefusedError

GOOD = np.full((3, 2), 0.5, np.float32)
NAN = np.array([[0.5, np.nan]] * 3, np.float32)


class Scripted:
    def __init__(self, answer: Probability | Exception, tier: str = "lite") -> None:
        self.answer, self.tier = answer, tier

    async def ask(self, _: int, __: float) -> tuple[str, Probability]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.tier, self.answer

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOOD, Reply(True, "lite")),
        (GOOD[:2], Reply(False, "wrong", "scores are [2, 2], not [3, 2]")),
        (NAN, Reply(False, "wrong", "a score is not a probability")),
        (GOOD + 1, Reply(False, "wrong", "a score is not a probability")),
        (RefusedError("full"), Reply(False, "shed", "full")),
        (TimeoutError(), Reply(False, "unanswered", "no answer in time")),
    ],
)
async def test_only_one_probability_per_candidate_and_task_is_an_answer(
    answer: Probability | Exception, expected: Reply
) -> None:
    assert await CheckedTarget(Scripted(answer), [(3, 2)]).send(5, 1.0) == expected


async def test_scores_of_another_request_are_wrong_in_the_full_tier() -> None:
    alone = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    for answer, tier, expected in (
        (alone + 1e-4, "full", "full"),
        (alone[::-1], "full", "wrong"),
        (alone[::-1], "trimmed", "trimmed"),
    ):
        target = CheckedTarget(Scripted(answer, tier), [(3, 2)], [alone])
        assert (await target.send(0, 1.0)).tier == expected
    assert (await CheckedTarget(Scripted(alone, "full"), [(3, 2)], [None]).send(0, 1.0)).ok
