"""Command paths as text."""

from __future__ import annotations

from typing import Any

import pytest

from polydatum import InvalidCommandPath
from polydatum.paths import split_path


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("items.get_item", ["items", "get_item"]),
        ("dal.items.get_item", ["items", "get_item"]),
        ("items.photos.add", ["items", "photos", "add"]),
        ("a.b.c.d.e.f.g.h", list("abcdefgh")),
        ("I2.x_1", ["I2", "x_1"]),
        ("x." + "y" * 198, ["x", "y" * 198]),
    ],
)
def test_paths(path: str, segments: list[str]) -> None:
    """Dotted public names; a first segment ``dal`` is ignored."""
    assert split_path(path) == segments


BAD = [
    "",
    ".",
    "items",
    "dal",
    "dal.items",
    "items.",
    ".get",
    "items..get",
    "items._get",
    "items.__class__",
    "_items.get",
    "items.get item",
    "items.get\n",
    "items.get()",
    "items/get",
    "items.1st",
    "items.gét",
    "items.\uff47et",
    "items." + "a" * 195,
    "a.b.c.d.e.f.g.h.i",
    "x" * 10_000_000,
]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path[:20] or "empty")
def test_anything_else_is_refused(path: str) -> None:
    """Dunders, private and odd names, too many segments or characters."""
    with pytest.raises(InvalidCommandPath) as caught:
        split_path(path)
    assert len(str(caught.value)) < 200
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("path", [None, 3, b"items.get", ["items", "get"]])
def test_a_path_is_text(path: Any) -> None:
    """No other type is taken for a path."""
    with pytest.raises(InvalidCommandPath, match="a path is text"):
        split_path(path)
