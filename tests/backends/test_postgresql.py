"""What became of a transaction whose COMMIT was not answered, by what the server answers afterwards."""

from __future__ import annotations

import pytest

from polydatum.backends.postgresql import FAILURES, QUESTIONS, asking


def verdict(*answers: object) -> tuple[bool | None, int]:
    """With the number of questions it took; the last answer is repeated."""
    questions = asking("7")
    asked = 0
    question = next(questions)
    while True:
        assert "'7'" in question
        asked += 1
        try:
            question = questions.send(answers[min(asked, len(answers)) - 1])
        except StopIteration as stop:
            return stop.value, asked


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (("committed",), (True, 1)),
        (("aborted",), (False, 1)),
        ((None,), (None, 1)),  # forgotten
        (("in progress", "in progress", "aborted"), (False, 3)),
        (("in progress",), (None, QUESTIONS)),
        ((OSError(), "committed"), (True, 2)),  # a connection of the pool that was broken, too
        ((OSError(),), (None, FAILURES)),
    ],
)
def test_asking(answers: tuple[object, ...], told: tuple[bool | None, int]) -> None:
    assert verdict(*answers) == told


def test_only_a_number_is_asked_for() -> None:
    with pytest.raises(ValueError):
        next(asking("7'; DROP TABLE accounts --"))
