"""Conduit as its visitors see it: what they ask and what they are told, in whichever host."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

PASSWORD = "correct horse"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]  # by names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def errors(self) -> Any:
        return self.json["errors"]


class Client(Protocol):
    """What carries a request to a host."""

    def __call__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer: ...


class Visitor:
    """Somebody at the door, logged in if they have a token."""

    def __init__(self, client: Client, username: str = "", token: str | None = None) -> None:
        self._client = client
        self.username = username
        self.token = token

    @property
    def email(self) -> str:
        return f"{quote(self.username)}@example.org"

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """Ask the API; a body that is no bytes is sent as JSON."""
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Token {self.token}"
        target = "/api" + quote(path, safe="/%") + ("?" + urlencode(query) if query else "")
        if body is None:
            body = b""
        return self._client(method, target, headers, body if isinstance(body, bytes) else json.dumps(body).encode())

    def get(self, path: str, **query: Any) -> Answer:
        return self.ask("GET", path, **query)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.ask("POST", path, body)

    def put(self, path: str, body: Any = None) -> Answer:
        return self.ask("PUT", path, body)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def publish(self, title: str = "How to train your dragon", *tags: str) -> Any:
        """Publish an article; gives it as the API shows it."""
        new = {"title": title, "description": "Ever wonder how?", "body": "You have to believe", "tagList": tags}
        answer = self.post("/articles", {"article": new})
        assert answer.status == 201, answer
        return answer.json["article"]

    def titles(self, path: str = "/articles", **query: Any) -> list[str]:
        """The titles of a list of articles."""
        return [article["title"] for article in self.get(path, **query).json["articles"]]

    def comment(self, slug: str, body: str = "It takes a Jacobian") -> Any:
        """Comment on an article; gives the comment as the API shows it."""
        answer = self.post(f"/articles/{slug}/comments", {"comment": {"body": body}})
        assert answer.status == 200, answer
        return answer.json["comment"]


class Site:
    """A Conduit that all tests of a module share: each brings visitors of its own."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._numbers = itertools.count(1)
        self.anyone = Visitor(client)

    def new_name(self, name: str = "ann") -> str:
        """A name that nobody has."""
        return f"{name}{next(self._numbers)}"

    def join(self, name: str = "ann") -> Visitor:
        """A new user, with a name that begins like this."""
        visitor = Visitor(self.client, self.new_name(name))
        new = {"username": visitor.username, "email": visitor.email, "password": PASSWORD}
        answer = visitor.post("/users", {"user": new})
        assert answer.status == 201, answer
        visitor.token = answer.json["user"]["token"]
        return visitor
