"""Runs the Python examples of the README and the documentation as tests, each page in an empty folder of its own."""

import contextlib
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.myst import SkipParser

from tests.pages import python_blocks


def enter_folder(namespace: dict[str, Any]) -> None:
    cleanup = namespace["_cleanup"] = contextlib.ExitStack()
    cleanup.enter_context(contextlib.chdir(cleanup.enter_context(tempfile.TemporaryDirectory())))


def leave_folder(namespace: dict[str, Any]) -> None:
    namespace["_cleanup"].close()


pytest_collect_file = Sybil(
    parsers=[python_blocks(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()
