"""The log of the library, ``logging.getLogger("polydatum")``; imported on first use, as most programs log no errors."""

from __future__ import annotations


def log_error(message: str, *args: object, error: BaseException | None = None) -> None:
    """Log at level ERROR, with the error's traceback if one is given."""
    import logging

    logging.getLogger("polydatum").error(message, *args, exc_info=error)
