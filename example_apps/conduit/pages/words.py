"""How words that users wrote, and moments, appear on a page."""

from __future__ import annotations

import re
import zlib
from datetime import datetime

from markdown_it import MarkdownIt
from markupsafe import Markup

TINTS = 12

markdown = MarkdownIt("commonmark", {"html": False})  # HTML in a text is text; links to javascript: are none


def prose(text: str) -> Markup:
    """The HTML of a text in Markdown. Its headings stand below that of the page."""
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "ugc nofollow noreferrer")
            elif child.type == "image" and not is_loadable(str(child.attrGet("src"))):
                child.type = "text"  # its content is the description
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def is_loadable(url: str) -> bool:
    """Whether an image may be shown: only over HTTPS, as the site's Content-Security-Policy says."""
    return url.startswith("https://")


def initials(name: str) -> str:
    """What stands in the place of a picture.

    Example:
        >>> initials("ann"), initials("Bob van der Berg")
        ('A', 'BB')
    """
    words = re.findall(r"[^\W_]+", name) or [name]
    return "".join(word[0] for word in dict.fromkeys([words[0], words[-1]])).upper()


def tint(name: str) -> int:
    """The number of a colour: of the same name always the same."""
    return zlib.crc32(name.encode()) % TINTS


def day(moment: datetime) -> str:
    """A date to read.

    Example:
        >>> day(datetime(2026, 3, 1))
        '1 March 2026'
    """
    return f"{moment.day} {moment:%B %Y}"
