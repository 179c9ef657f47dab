"""Command paths: ``items.photos.add``, the readable name of a service method.

Pure text: this module decides what a path may look like, `polydatum.layer` what it leads to.
"""

from __future__ import annotations

from .errors import InvalidCommandPath

MAX_LENGTH = 200
MAX_SEGMENTS = 8

_FORM = f"letters a-z and A-Z, 0-9, _, starting with a letter; at most {MAX_SEGMENTS} segments, {MAX_LENGTH} characters"


def split_path(path: str) -> list[str]:
    """The segments of a command path; a first segment ``dal`` is ignored.

    Raises:
        InvalidCommandPath: if it is not a dotted list of public names.

    Example:
        >>> split_path("dal.items.get_item")
        ['items', 'get_item']
    """
    if not isinstance(path, str):
        raise InvalidCommandPath(f"a path is text such as 'items.get_item', not {type(path).__name__}")
    if len(path) > MAX_LENGTH:
        raise InvalidCommandPath(f"it has {len(path)} characters ({_FORM})")
    segments = path.split(".")
    if len(segments) > MAX_SEGMENTS:
        raise InvalidCommandPath(f"it has {len(segments)} segments ({_FORM})")
    for number, segment in enumerate(segments, start=1):
        if not (segment.isascii() and segment.isidentifier()) or segment.startswith("_"):
            raise InvalidCommandPath(f"segment {number} is not a public name ({_FORM})")
    if segments[0] == "dal":
        del segments[0]
    if len(segments) < 2:
        raise InvalidCommandPath("it has to name a service and a method, such as 'items.get_item'")
    return segments
