"""The table of the page, against what is observed now; of the peers, FastAPI's `Depends` is installed with the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.truth import report
from tests.truth.serving import ROOT, observe
from tests.truth.stacks import STACKS, Stack

PAGE = ROOT / "docs/explanation/why-the-answer-can-lie.md"
HERE = [stack for stack in STACKS if stack.is_ours or stack.module.startswith("fastapi_depends")]


def told() -> dict[str, list[str]]:
    """What the page says of each stack, by its name without the version."""
    rows = re.findall(r"^\| (\S.*?) \| ((?:yes|\*\*no\*\*) .*) \|$", PAGE.read_text(), re.MULTILINE)
    return {re.sub(r" \d+(\.\d+)+", "", first.strip("*")): rest.split(" | ") for first, rest in rows}


def test_the_page_has_every_stack() -> None:
    assert list(told()) == [stack.name for stack in STACKS]


@pytest.mark.parametrize("stack", HERE, ids=lambda stack: stack.module)
def test_what_the_page_says_is_what_happens(stack: Stack, tmp_path: Path) -> None:
    if stack.missing is not None:
        pytest.skip(f"{stack.missing} is not installed")

    seen = observe(stack, tmp_path)

    assert report.cells(stack, seen) == told()[stack.name]
    assert report.is_right(stack, seen) is stack.is_ours
