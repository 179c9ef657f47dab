"""How users' texts, and dates, appear on a page."""

from __future__ import annotations

import re
import zlib
from datetime import datetime

from markdown_it import MarkdownIt
from markupsafe import Markup

TINTS = 12

markdown = MarkdownIt("commonmark", {"html": False})  # HTML is shown as text; javascript: links are not links


def prose(text: str) -> Markup:
    """The HTML of a Markdown text. Its headings rank below the page's heading."""
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "ugc nofollow noreferrer")
            elif child.type == "image" and not is_loadable(str(child.attrGet("src"))):
                child.type = "text"  # its content is the image's description
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def is_loadable(url: str) -> bool:
    """Whether an image may be shown: only over HTTPS, as the site's Content-Security-Policy demands."""
    return url.startswith("https://")


def initials(name: str) -> str:
    """The initials shown in place of a picture.

    Example:
        >>> initials("ann"), initials("Bob van der Berg")
        ('A', 'BB')
    """
    words = re.findall(r"[^\W_]+", name) or [name]
    return "".join(word[0] for word in dict.fromkeys([words[0], words[-1]])).upper()


def tint(name: str) -> int:
    """The number of a colour, which is always the same for a name."""
    return zlib.crc32(name.encode()) % TINTS


def day(moment: datetime) -> str:
    """A date in readable form.

    Example:
        >>> day(datetime(2026, 3, 1))
        '1 March 2026'
    """
    return f"{moment.day} {moment:%B %Y}"
