"""One long visit to Conduit, and the transcript of its answers."""

from __future__ import annotations

import re
from typing import Any

from tests.examples.conduit.visitors import Answer, Client, Visitor

MASKED = [
    (rb'"token":"[^"]*"', b'"token":"..."'),
    (rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b"<time>"),
    (rb'"id":\d+', b'"id":<id>'),
    (rb'"slug":"([^"]*?)-?\d+"', rb'"slug":"\1-<id>"'),
]
"""Ids and times, which may differ."""


def masked(body: bytes) -> bytes:
    """An answer, without them."""
    for pattern, instead in MASKED:
        body = re.sub(pattern, instead, body)
    return body


class Transcript:
    """What was asked, and what was answered, byte for byte but for ids and times."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self.lines: list[bytes] = []

    def __call__(self, method: str, target: str, headers: Any, body: bytes) -> Answer:
        answer = self._client(method, target, headers, body)
        kind = answer.headers["content-type"] if answer.body else "nothing"
        line = f"{answer.status} {kind} ".encode() + masked(answer.body)
        self.lines.append(line.replace(self._prefix.encode(), b"<prefix>"))
        return answer


def play(client: Client, prefix: str) -> list[bytes]:
    """Play it; names begin with a prefix, so that it can be played again on the same database."""
    transcript = Transcript(client, prefix)
    anyone = Visitor(transcript)

    def user(name: str) -> dict[str, str]:
        return {"username": f"{prefix}{name}", "email": f"{prefix}{name}@example.org", "password": "secret"}

    def join(name: str) -> Visitor:
        visitor = Visitor(transcript, f"{prefix}{name}")
        visitor.token = visitor.post("/users", {"user": user(name)}).json["user"]["token"]
        return visitor

    # Users
    ann, bob = join("ann"), join("bob")
    anyone.post("/users", {"user": user("ann")})
    anyone.post("/users", {"user": {**user("eve"), "email": user("bob")["email"]}})
    anyone.post("/users", {"user": {}})
    anyone.post("/users", {"user": {"username": 7, "email": "no address", "password": ""}})
    anyone.post("/users", {"user": {**user("x" * 60)}})
    anyone.post("/users", b"{")
    anyone.post("/users", b"")
    anyone.post("/users", [])
    anyone.post("/users/login", {"user": user("ann")})
    anyone.post("/users/login", {"user": {**user("ann"), "password": "wrong"}})
    anyone.post("/users/login", {"user": {"email": "x"}})
    anyone.get("/user")
    Visitor(transcript, token="x").get("/user")
    ann.get("/user")
    ann.put(
        "/user",
        {"user": {"bio": 'I "work" at\n<statefarm> — \u2028 ☃ \x7f \\', "image": "https://example.org/a?b=c&d"}},
    )
    ann.put("/user", {"user": {"username": bob.username}})
    ann.put("/user", {"user": {}})
    ann.put("/user", {"user": {"bio": None}})

    # Profiles
    anyone.get(f"/profiles/{ann.username}")
    anyone.get("/profiles/nobody%20here")
    bob.post(f"/profiles/{ann.username}/follow")
    bob.post(f"/profiles/{ann.username}/follow")
    bob.post("/profiles/nobody/follow")
    anyone.post(f"/profiles/{ann.username}/follow")
    bob.get(f"/profiles/{ann.username}")
    bob.delete(f"/profiles/{bob.username}/follow")

    # Articles
    slug = ann.publish(f"{prefix} — über Drachen", f"{prefix}z", f"{prefix}a")["slug"]
    same = ann.publish(f"{prefix} — über Drachen")["slug"]
    bob.publish(f"{prefix} feeding", f"{prefix}a")
    ann.post("/articles", {"article": {"title": " ", "tagList": ["", "x"]}})
    ann.post("/articles", {"article": {"title": "nul\0", "description": "\ud800", "body": "x" * 20_000, "tagList": 7}})
    anyone.post("/articles", {"article": {"title": "t", "description": "d", "body": "b"}})
    for reader in (anyone, ann, bob):
        reader.get(f"/articles/{slug}")
        reader.get("/articles", author=ann.username)
        reader.get("/articles", tag=f"{prefix}a", limit=1)
        reader.get("/articles", tag=f"{prefix}a", limit=1, offset=1)
        reader.get("/articles/feed")
    anyone.get("/articles", limit=0, offset="x")
    anyone.get("/articles", tag="a\0b")
    anyone.get("/articles/nothing-0")
    bob.post(f"/articles/{slug}/favorite")
    bob.post(f"/articles/{slug}/favorite")
    anyone.get("/articles", favorited=bob.username)
    bob.delete(f"/articles/{same}/favorite")
    bob.put(f"/articles/{slug}", {"article": {"title": "mine"}})
    bob.delete(f"/articles/{slug}")
    slug = ann.put(f"/articles/{slug}", {"article": {"title": f"{prefix} changed"}}).json["article"]["slug"]
    ann.put(f"/articles/{slug}", {"article": {"body": "", "title": None}})
    bob.get("/articles/feed", limit=1)

    # Comments
    first = bob.comment(slug, "first ☃")
    ann.comment(slug, "second")
    ann.post(f"/articles/{slug}/comments", {"comment": {}})
    ann.post(f"/articles/{slug}/comments", {})
    anyone.post(f"/articles/{slug}/comments", {"comment": {"body": "third"}})
    for reader in (anyone, bob):
        reader.get(f"/articles/{slug}/comments")
    ann.delete(f"/articles/{slug}/comments/{first['id']}")
    ann.delete(f"/articles/{same}/comments/{first['id']}")
    bob.delete(f"/articles/{slug}/comments/{first['id']}")
    bob.delete(f"/articles/{slug}/comments/{first['id']}")
    anyone.get(f"/articles/{slug}/comments")

    # What is not there
    ann.delete(f"/articles/{same}")
    ann.get(f"/articles/{same}/comments")
    bob.delete(f"/articles/{slug}/favorite")
    anyone.get("/nothing")
    return transcript.lines
