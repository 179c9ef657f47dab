"""The log of the library, ``logging.getLogger("polydatum")``. Loaded on first need: most programs have no errors yet."""

from __future__ import annotations


def log_error(message: str, *args: object, error: BaseException | None = None) -> None:
    """Log at level ERROR, with the error's traceback if one is given."""
    import logging

    logging.getLogger("polydatum").error(message, *args, exc_info=error)
