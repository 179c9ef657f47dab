"""Reading a file to which other processes append lines while it is read."""

from __future__ import annotations

from pathlib import Path


def whole_lines(path: Path) -> list[str]:
    """The lines that have been written to their end; none if there is no file yet.

    Appends by one ``write`` never mix, but a reader may see the first half of one: at the end of a page of the file, ext4
    shows what is written before it writes the rest.
    """
    try:
        return path.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
