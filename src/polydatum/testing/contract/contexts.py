"""Which context a request has: one of its own, even beside and inside other requests."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from polydatum import NoActiveContextError, bind
from polydatum.testing.hosts import Call, Reply
from polydatum.testing.shop import Shop

from .suite import Suite


class Contexts(Suite):
    """One context per request, and `request.dal` in it."""

    # --- 13, 15: request.dal --------------------------------------------------------------------------------------

    def test_13_request_dal_is_one_object_in_view_and_error_handler(self, shop: Shop) -> None:
        seen: list[Any] = []

        def view(request: Any) -> Reply:
            seen.append(request.dal)
            request.dal.items.add("tea")
            raise LookupError

        def handler(request: Any, error: Exception) -> Reply:
            seen.append(request.dal)
            assert shop.here().state == "open"
            return Reply(200, f"{request.dal.items.names()}".encode())

        self.needs("handlers")
        answer = self.call(shop, view, handlers={LookupError: handler})

        assert (answer.status, answer.body) == (200, b"['tea']")
        assert seen[0] is seen[1] is shop.dm.get_dal()
        assert shop.names == ["tea"]

    def test_13_without_the_adapter_the_error_says_what_to_install(self, shop: Shop) -> None:
        assert (
            self.call(shop, lambda request: Reply(200, str(request.dal).encode())).status == 200
        )  # the adapter is in use
        found: list[BaseException] = []

        def view(request: Any) -> Reply:
            try:
                request.dal.items.names()
            except Exception as error:
                found.append(error)
            return Reply()

        self.needs("request")
        self.host.call(Call(view, None))

        (error,) = found
        assert isinstance(error, NoActiveContextError)
        assert not isinstance(error, AttributeError)
        assert self.host.fix in str(error)

    def test_15_installed_twice_there_is_one_context(self, shop: Shop) -> None:
        self.needs("twice")
        shop.dm.register_context_middleware(shop.middleware("transaction"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply()

        assert self.call(shop, view, installed=2).status == 200
        assert shop.log.count("transaction begin") == shop.log.count("transaction commit") == 1
        assert shop.log.count("db commit") == 1

    # --- 12, 16: requests beside and inside each other ----------------------------------------------------------------

    def test_12_two_hundred_requests_at_once_do_not_see_each_other(self, shop: Shop) -> None:
        started = threading.Barrier(8, timeout=1)

        def view(request: Any) -> Reply:
            context = shop.here()
            number = context.meta.params["n"]
            with contextlib.suppress(threading.BrokenBarrierError):  # breaks where requests do not overlap in threads
                started.wait(0.01)
            assert shop.here() is context
            assert context.cache == {}
            context.cache["n"] = number
            assert request.dal.items is shop.dm.get_dal().items
            assert shop.here().meta.params["n"] == number
            return Reply(200, context.cache["n"].encode())

        calls = [Call(view, shop.dm, shop.log, query=f"n={number}") for number in range(200)]
        answers = self.host.together(self.host.application(calls[0]), calls)

        assert [answer.status for answer in answers] == [200] * 200, answers[0].reported
        assert [answer.body for answer in answers] == [str(number).encode() for number in range(200)]
        assert len({id(context) for context in shop.contexts}) == 200
        assert shop.log.count("cache commit") == 200

    def test_16_a_nested_call_has_a_context_of_its_own(self, shop: Shop) -> None:
        self.needs("nesting")

        def view(request: Any) -> Reply:
            context = shop.here()
            if context.meta.params.get("inner") is not None:
                request.dal.items.add("inner")
                return Reply()
            before = request.dal.items.names()
            inner = Call(view, shop.dm, query="inner=1")
            with ThreadPoolExecutor(1) as pool:  # an event loop cannot run in another
                assert pool.submit(bind(self.host.request), app, inner).result().status == 200
            assert shop.here() is context
            assert context.state == "open"
            request.dal.items.add("outer")
            assert (before, request.dal.items.names()) == ([], ["inner", "outer"])
            return Reply()

        call = Call(view, shop.dm, shop.log)
        app = self.host.application(call)

        assert self.host.request(app, call).status == 200
        assert shop.names == ["inner", "outer"]
        assert len({id(context) for context in shop.contexts}) == 2
