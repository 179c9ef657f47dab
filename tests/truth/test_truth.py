"""Compares the page's table with current results; of the peers, only FastAPI's `Depends` is installed for tests."""

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
    """The page's cells for each stack, by its name without the version."""
    rows = re.findall(r"^\| (\S.*?) \| ((?:yes|\*\*no\*\*) .*) \|$", PAGE.read_text(), re.MULTILINE)
    return {re.sub(r" \d+(\.\d+)+", "", first.strip("*")): rest.split(" | ") for first, rest in rows}


def test_the_page_has_every_stack() -> None:
    assert list(told()) == [stack.name for stack in STACKS]


def test_the_page_counts_its_lines() -> None:
    asked = [stack for stack in STACKS if not (stack.is_ours or stack.is_tasks)]
    lies = [[cell.startswith(report.WRONG) for cell in told()[stack.name]] for stack in asked]
    refused = sum(line[0] for line in lies)
    errors = sum(any(line[1:5]) for line in lies)
    bodies = sum(line[5] for line in lies)
    right = sum(not any(line) for line in lies)
    text = " ".join(PAGE.read_text().split())
    assert (
        f"Of {len(asked)} lines that are not Polydatum's, {refused} answer a refused commit with a 201, {errors} keep"
        in text
    )
    assert f"answer with an error, and {bodies} lose the body. {right} are right in all" in text


@pytest.mark.parametrize("stack", HERE, ids=lambda stack: stack.module)
def test_what_the_page_says_is_what_happens(stack: Stack, tmp_path: Path) -> None:
    if stack.missing is not None:
        pytest.skip(f"{stack.missing} is not installed")

    seen = observe(stack, tmp_path)

    assert report.cells(stack, seen) == told()[stack.name]
    assert report.is_right(stack, seen) is stack.is_ours


def test_others_say_how_many_stacks_there_are() -> None:
    for page in (ROOT / "README.md", ROOT / "docs/index.md"):
        assert set(re.findall(r"(\d+)(?: of them, ours| stacks)", page.read_text())) == {str(len(STACKS))}
