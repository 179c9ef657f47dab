"""What a context knows about its request: the parameters, the user, the request id."""

from __future__ import annotations

import re
from typing import Any

import pytest

from polydatum.testing.hosts import Call, Reply
from polydatum.testing.shop import Shop

from .suite import Suite

SPOOFED: list[list[tuple[str, str]]] = [
    [(name, value)] * times
    for name in ("X-User", "X-Remote-User", "X-Forwarded-User", "Remote-User", "X-Auth-Request-User")
    for value in ("mallory", "admin\r\nX-User: root", "root\x00", "")
    for times in (1, 2)
]
"""Headers in which proxies name the user; any client can send them."""


class Metadata(Suite):
    """`ctx.meta`."""

    # --- 63: ctx.meta ---------------------------------------------------------------------------------------------

    def test_63_params_hold_query_and_path_with_repeated_keys(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            params = shop.here().meta.params
            assert sorted(params) == ["empty", "id", "tag"]
            assert params.getlist("tag") == ["a", "b c"]
            assert params["tag"] == "b c"
            assert params["empty"] == ""
            assert [str(value) for value in params.getlist("id")] == ["9", "7"]
            assert str(params["id"]) == "7"  # the path's
            assert "missing" not in params
            assert params.get("missing") is None
            with pytest.raises(TypeError):
                params["tag"] = "c"
            with pytest.raises(AttributeError):
                shop.here().meta.params = {}
            return Reply()

        answer = self.call(shop, view, query="tag=a&tag=b+c&id=9&empty=")

        assert answer.status == 200, answer.reported
        assert shop.contexts[0].meta.params.getlist("tag") == ["a", "b c"]  # stays readable

    def test_63_params_hold_form_fields(self, shop: Shop) -> None:
        self.needs("forms")

        def view(request: Any) -> Reply:
            params = shop.here().meta.params
            assert params.getlist("size") == ["s", "m", "l"]
            return Reply()

        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.call(shop, view, method="POST", query="size=s", headers=form, body=b"size=m&size=l")
        assert answer.status == 200, answer.reported

    def test_63_meta_holds_request_and_user(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            meta = shop.here().meta
            assert meta.request is not None
            assert meta.user is None
            return Reply()

        answer = self.call(shop, view)
        assert answer.status == 200, answer.reported

    # --- 64: who asks -------------------------------------------------------------------------------------------------

    def test_64_spoofed_headers_never_change_the_user(self, shop: Shop) -> None:
        seen: list[Any] = []

        def view(request: Any) -> Reply:
            seen.append(shop.here().meta.user)
            return Reply()

        for headers in SPOOFED:
            refused = self.host.call(Call(lambda request: Reply(), None, headers=headers)).raised  # by the framework
            answer = self.call(shop, view, headers=headers)
            assert answer.status == (200 if refused is None else 500)
        assert len(SPOOFED) == 40
        assert len(seen) >= 30
        assert set(seen) == {None}

    @pytest.mark.parametrize("given", ["web-1.7_f", "A" * 64])
    def test_64_a_harmless_request_id_is_kept(self, shop: Shop, given: str) -> None:
        assert self.request_id(shop, [("X-Request-Id", given)]) == given

    @pytest.mark.parametrize(
        "given", [(), ("",), ("A" * 65,), ("a b",), ("a\tb",), ("é",), ("a", "b"), ("<script>",), ("1;2",)]
    )
    def test_64_any_other_is_replaced(self, shop: Shop, given: tuple[str, ...]) -> None:
        headers = [("X-Request-Id", value) for value in given]
        found = self.request_id(shop, headers)
        assert re.fullmatch(r"[0-9a-f]{32}", found)
        assert self.request_id(shop, headers) != found

    def request_id(self, shop: Shop, headers: Any) -> str:
        seen: list[str] = []

        def view(request: Any) -> Reply:
            meta = shop.here().meta
            seen.extend([meta.request_id, meta.request_id])
            return Reply()

        assert self.call(shop, view, headers=headers).status == 200
        assert seen[0] == seen[1]  # one id per request
        return seen[0]
