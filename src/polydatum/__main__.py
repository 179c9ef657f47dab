"""The entry point of ``polydatum`` and ``python -m polydatum``: the part that works without click."""

from __future__ import annotations

import sys

from polydatum.errors import MissingClientError


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from polydatum.cli import polydatum
    except MissingClientError as error:
        sys.exit(str(error))
    polydatum(prog_name="polydatum")


if __name__ == "__main__":
    main()
