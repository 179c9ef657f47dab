"""Examples of the documentation that connect: their URLs are the usual ones, and mean the servers of the tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import PythonCodeBlockParser
from sybil.region import Lexeme

from tests.services import url_of


def _redis(shown: str) -> str:
    return url_of("redis")


def _mongo(shown: str) -> str:
    from tests.backends.mongod import mongo_url

    return urlunsplit(urlsplit(mongo_url())._replace(path=urlsplit(shown).path))


SERVERS: dict[str, Callable[[str], str]] = {"redis": _redis, "mongodb": _mongo}
SHOWN = re.compile(rf'(?<=")({"|".join(SERVERS)})://127\.0\.0\.1[^"]*(?=")')


class Connecting(PythonEvaluator):
    """Runs an example, with the URLs of real servers. Without one, the rest of the page is skipped."""

    def __call__(self, example: Any) -> None:
        if reason := example.namespace.get("_missing"):
            pytest.skip(reason)
        try:
            text = SHOWN.sub(lambda url: SERVERS[url[1]](url[0]), example.parsed)
        except (pytest.skip.Exception, pytest.fail.Exception) as missing:
            example.namespace["_missing"] = missing.msg
            raise
        example.parsed = Lexeme(text, example.parsed.offset, example.parsed.line_offset)
        super().__call__(example)


def python_blocks() -> PythonCodeBlockParser:
    """The parser of code blocks in Python."""
    parser = PythonCodeBlockParser()
    parser.codeblock_parser = parser.codeblock_parser_class("python", Connecting())
    return parser
