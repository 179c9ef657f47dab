"""An application that never touches the DAL answers as it does without the adapter."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polydatum.testing.hosts import Answer, Call, Reply
from polydatum.testing.shop import Shop

from .suite import Suite

TRANSPARENT: dict[str, Callable[[], Reply]] = {
    "plain": lambda: Reply(200, b"plain", {"X-Own": "1", "Content-Type": "text/x-own"}),
    "cookies": lambda: Reply(200, b"cookies", {"Set-Cookie": "seen=1; Path=/"}),
    "empty": lambda: Reply(204, b""),
    "unchanged": lambda: Reply(304, b"", {"ETag": '"7"'}),
    "moved": lambda: Reply(302, b"", {"Location": "/elsewhere"}),
    "refused": lambda: Reply(403, b"own words"),
    "broken": lambda: Reply(500, b"own words"),
    "streamed": lambda: Reply(200, iter([b"one ", b"two"]), {"Content-Type": "text/x-own"}),
}


class Transparency(Suite):
    """With the adapter and without it, the answer is the same."""

    # --- 65: an application that never touches the DAL ----------------------------------------------------------------

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize(
        "name", ["plain", "cookies", "empty", "unchanged", "moved", "refused", "broken", "streamed"]
    )
    def test_65_an_answer_is_what_it_was(self, shop: Shop, name: str, method: str) -> None:
        def view(request: Any) -> Reply:
            return TRANSPARENT[name]()

        self.same(shop, view, method=method)

    def test_65_an_exception_is_what_it_was(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            raise ZeroDivisionError("no")

        bare, ours = self.same(shop, view)
        assert [type(error) for error in ours.reported] == [type(error) for error in bare.reported]

    def test_65_a_body_that_fails_fails_as_it_did(self, shop: Shop) -> None:
        def broken() -> Iterator[bytes]:
            yield b"one "
            raise ZeroDivisionError("no")

        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            self.same(shop, lambda request: Reply(200, broken()))
            gc.collect()  # here Django leaves the request's body open, with and without an adapter

    def test_65_error_pages_are_what_they_were(self, shop: Shop) -> None:
        self.same(shop, lambda request: Reply(), path="/nowhere")
        self.same(shop, lambda request: Reply(), method="DELETE")
        for status in self.host.abort_statuses:

            def view(request: Any, status: int = status) -> Reply:
                raise self.host.abort(status)

            self.same(shop, view)

    def test_65_the_body_of_a_request_is_what_was_sent(self, shop: Shop) -> None:
        self.needs("forms")
        form = {"Content-Type": "application/x-www-form-urlencoded"}

        def view(request: Any) -> Reply:
            fields = getattr(request, "form", None) or request.POST
            return Reply(200, fields["size"].encode())

        _, ours = self.same(shop, view, method="POST", headers=form, body=b"size=m")
        assert ours.body == b"m"

    def same(self, shop: Shop, view: Any, **options: Any) -> tuple[Answer, Answer]:
        """The answers without and with the adapter; asserts that they are equal."""
        bare = self.host.call(Call(view, None, **options))
        ours = self.call(shop, view, **options)
        assert (ours.status, ours.headers, ours.body) == (bare.status, bare.headers, bare.body)
        assert type(ours.raised) is type(bare.raised)
        assert "db open" not in shop.log
        return bare, ours
