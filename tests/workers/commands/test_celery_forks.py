"""A process that has sent commands is forked: parent and child both go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import partial

import pytest

from tests.forking import fork
from tests.workers.worker import CommandSender, ended

pytestmark = [
    pytest.mark.usefixtures("worker"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

Wait = Callable[[], int | None]
"""For the exit code of a child."""


def by_multiprocessing(work: Callable[[], None]) -> Wait:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()

    def wait() -> int | None:
        child.join()
        return child.exitcode

    return wait


@pytest.mark.parametrize("forked", [fork, by_multiprocessing])
def test_a_forked_child_has_connections_of_its_own_and_leaves_the_parent_its(
    sender: CommandSender, key: str, forked: Callable[[Callable[[], None]], Wait]
) -> None:
    """Both send, and wait for results, at the same time."""

    def send(prefix: str) -> None:
        for number in range(20):
            one = f"{prefix}-{number}"
            result = sender.command("add", one).send(id=one, retry=False)  # by the connection that there is
            assert ended(result) == ("SUCCESS", one)

    key = f"{key}-{forked.__name__}"
    send(f"{key}-before")
    wait = forked(partial(send, f"{key}-child"))
    try:
        send(f"{key}-parent")
    finally:
        code = wait()
    assert code == 0
