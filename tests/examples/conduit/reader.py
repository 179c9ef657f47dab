"""Somebody who reads the pages: gets one by its address, and sees what is on it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import quote, urlencode

from tests.examples.conduit.visitors import Answer, Client

VOID = {"img", "link", "meta", "br", "hr"}


class Element(NamedTuple):
    """An element, the tags that it stands in, and what is written in it."""

    tag: str
    attributes: dict[str, str]
    parents: tuple[str, ...]
    words: list[str]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


class Document(HTMLParser):
    """A page, as elements and their text; each element that is opened must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parents = tuple(element.tag for element in self._open)
        element = Element(tag, {name: value or "" for name, value in attrs}, parents, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.words.append(data)

    def all(self, tag: str, inside: str = "body", **attributes: str) -> list[Element]:
        """The elements of a tag that have these attributes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and inside in element.parents and wanted.items() <= element.attributes.items()
        ]

    def texts(self, tag: str, inside: str = "body", **attributes: str) -> list[str]:
        return [element.text for element in self.all(tag, inside, **attributes)]

    @property
    def text(self) -> str:
        return next(element for element in self.elements if element.tag == "body").text

    @property
    def titles(self) -> list[str]:
        """Of the articles in a list."""
        return self.texts("h2", inside="article")

    @property
    def links(self) -> dict[str, str]:
        """Where they lead, by what stands on them."""
        return {link.text: link.attributes["href"] for link in self.all("a")}


class Page(NamedTuple):
    answer: Answer
    document: Document

    @property
    def status(self) -> int:
        return self.answer.status


class Reader:
    """Reads pages of a host; without a token, as browsers do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, target: str, method: str = "GET") -> Answer:
        return self._client(method, target, {}, b"")

    def follow(self, target: str) -> Page:
        """The page behind a link."""
        answer = self.ask(target)
        assert answer.headers["content-type"] == "text/html; charset=utf-8", answer
        return Page(answer, Document(answer.body.decode()))

    def open(self, path: str, **query: str | int) -> Page:
        """The page of an address, as one types it."""
        return self.follow(quote(path) + ("?" + urlencode(query) if query else ""))
