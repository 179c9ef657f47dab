"""What the pages make of words, names and moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conduit.pages import site
from conduit.pages.words import TINTS, day, initials, prose, tint


def test_markdown_is_shown_below_the_title_of_the_page() -> None:
    assert prose("# One\n###### Six") == "<h2>One</h2>\n<h6>Six</h6>\n"


def test_a_link_of_a_user_is_no_recommendation_of_ours() -> None:
    assert prose("[x](https://example.org)") == (
        '<p><a href="https://example.org" rel="ugc nofollow noreferrer">x</a></p>\n'
    )


def test_a_picture_is_loaded_over_https_only() -> None:
    assert (
        prose("![A cat](https://example.org/a.png)") == '<p><img src="https://example.org/a.png" alt="A cat" /></p>\n'
    )
    assert prose("![A *cat*](http://example.org/a.png)") == "<p>A *cat*</p>\n"
    assert prose("[![<b>](/a.png)](/b)") == '<p><a href="/b" rel="ugc nofollow noreferrer">&lt;b&gt;</a></p>\n'


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("ann", "A"),
        ("Bob van der Berg", "BB"),
        ("bob_the.builder", "BB"),
        ("ann ann", "A"),
        ("élodie", "É"),
        ("_", "_"),
    ],
)
def test_initials(name: str, letters: str) -> None:
    assert initials(name) == letters


def test_a_name_has_one_of_the_colours_in_the_style_and_keeps_it() -> None:
    style = Path(site.FOLDER, "files", "style.css").read_text()
    assert set(map(int, re.findall(r"^\.tint-(\d+) ", style, re.MULTILINE))) == set(range(TINTS))
    assert tint("ann") == tint("ann") in range(TINTS)


def test_a_day_is_written_out() -> None:
    assert day(datetime(2026, 3, 1, 23, 59, tzinfo=UTC)) == "1 March 2026"


def test_a_text_made_to_be_slow_is_not() -> None:
    """16,000 characters, the longest there are; the worst takes a second."""
    for piece in ("[", "![[", "*a ", "**a", "`", ">", "[](", "[a](b", "*_", "<!--"):
        assert prose((piece * 16_000)[:16_000])
