"""The program ``polydatum``, also as ``python -m polydatum``: what is there without click."""

from __future__ import annotations

import sys

from polydatum.errors import MissingClientError


def main() -> None:
    """Run it, or say how to get it."""
    try:
        from polydatum.cli import polydatum
    except MissingClientError as error:
        sys.exit(str(error))
    polydatum(prog_name="polydatum")


if __name__ == "__main__":
    main()
