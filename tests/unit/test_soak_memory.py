"""When the soak says that memory stays within bounds."""

from __future__ import annotations

import pytest

from tests.soak.memory import BROKER, JOB_DRIVER, Life, Part, longest_lives


@pytest.mark.parametrize(
    ("part", "samples", "bounded"),
    [
        (JOB_DRIVER, [50, 120] + [200] * 98, True),
        (JOB_DRIVER, [200 + minute for minute in range(100)], True),
        (JOB_DRIVER, [200 + 2 * minute for minute in range(100)], False),
        (JOB_DRIVER, [200] * 50 + [900] + [200] * 49, True),
        (BROKER, [300 + 5 * minute for minute in range(100)], True),
        (BROKER, [300] * 99 + [1_300], False),
    ],
    ids=["it comes up", "creeps", "grows", "a moment's peak", "a heap fills", "beyond any heap"],
)
def test_python_must_settle_and_a_jvm_keep_to_its_heap(
    part: Part, samples: list[float], bounded: bool
) -> None:
    assert Life(part, samples).is_bounded is bounded


def test_the_longest_life_of_each_part_is_judged() -> None:
    short, long, broker = Life(JOB_DRIVER, [1.0]), Life(JOB_DRIVER, [1.0, 2.0]), Life(BROKER, [3.0])
    assert longest_lives([broker, short, long]) == [long, broker]
