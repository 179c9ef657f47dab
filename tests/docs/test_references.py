"""What the documentation points at is there: tests, files of the repository, targets of make."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[(test_\w+)\]\(([^)\s]+\.py)\)")
"""A test, linked to the file that it is in: ``[test_name](../../tests/unit/test_thing.py)``."""


def named(page: Path) -> Iterator[tuple[Path, str]]:
    """Every test that a page names: its file, its name."""
    for name, path in LINK.findall(page.read_text()):
        yield (page.parent / path).resolve(), name


def rows_of(page: Path) -> Iterator[str]:
    """The rows of all tables of a page, without their headings."""
    lines = [*page.read_text().splitlines(), ""]
    for line, below in itertools.pairwise(lines):
        if line.startswith("| ") and not below.startswith("|---"):
            yield line


@functools.cache
def functions_of(module: Path) -> frozenset[str]:
    """The names of the functions in a module, those of its classes among them."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, functions))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    missing = [(str(path), name) for path, name in named(page) if not path.is_file() or name not in functions_of(path)]
    assert missing == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    """Those of the documentation are looked up when it is built."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_that_a_page_names_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= set(targets)


@pytest.mark.parametrize("name", ["what-happens-when", "threads-tasks-forks"])
def test_every_row_is_linked_to_its_test(name: str) -> None:
    rows = list(rows_of(ROOT / f"docs/explanation/{name}.md"))
    assert len(rows) > 30
    assert [row for row in rows if not LINK.search(row)] == []
