"""How a context ends: its resources, middleware and hooks, and failures among them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from polydatum.testing.hosts import Reply
from polydatum.testing.shop import Backend, Shop

from .suite import Suite


class Teardown(Suite):
    """Resources, middleware and hooks, in their order."""

    # --- 7 to 11: resources and middleware ------------------------------------------------------------------------

    def test_07_resources_open_on_use_and_once(self, shop: Shop) -> None:
        assert self.call(shop, lambda request: Reply()).status == 200
        assert shop.log == ["start 200"]

        def view(request: Any) -> Reply:
            return Reply(200, f"{request.dal.items.names()}{request.dal.items.names()}".encode())

        assert self.call(shop, view).body == b"[][]"
        assert shop.log.count("db open") == 1

    def test_08_middleware_unwinds_in_reverse_then_resources(self, shop: Shop) -> None:
        shop.dm.register_context_middleware(shop.middleware("outer"), shop.middleware("inner"))

        def view(request: Any) -> Reply:
            context = shop.here()
            assert context.cache == {}
            request.dal.items.add("tea")
            return Reply()

        assert self.call(shop, view).status == 200
        assert shop.log == [
            *("outer begin", "inner begin", "cache open", "db open"),
            *("inner commit", "outer commit", "db commit", "db close", "cache commit", "cache close", "start 200"),
        ]

    def test_09_a_generator_that_raises_after_its_yield_is_a_failed_commit(self, shop: Shop) -> None:
        failure = shop.fail("cache commit", RuntimeError("flush"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            assert shop.here().cache == {}
            return Reply()

        answer = self.call(shop, view)

        assert answer.status == 500
        assert failure in answer.reported
        assert shop.log[-3 if "start 500" in shop.log else -2 :][:2] == ["db rollback", "db close"]
        assert shop.names == []

    def test_09_a_backend_that_cannot_close_after_its_commit_changes_nothing(
        self, shop: Shop, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend = Backend(shop.log, RuntimeError("cannot close"))
        shop.dm.register_resources(backend=lambda context: backend)

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            assert shop.here().backend is backend
            return Reply()

        with caplog.at_level(logging.DEBUG):
            answer = self.call(shop, view)

        assert answer.status == 200
        assert shop.log[-1] == "start 200"
        assert "db close" in shop.log
        assert shop.names == ["tea"]
        assert shop.outcomes == ["committed"]
        assert len([record for record in caplog.records if "cannot close" in str(record.exc_info or record)]) == 1

    def test_10_a_failing_rollback_is_a_note_on_the_original(
        self, shop: Shop, caplog: pytest.LogCaptureFixture
    ) -> None:
        error = ZeroDivisionError("original")
        shop.fail("cache rollback", RuntimeError("cannot roll back"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            assert shop.here().cache == {}
            raise error

        with caplog.at_level(logging.DEBUG, "polydatum"):
            answer = self.call(shop, view)

        assert answer.status == 500
        assert error in answer.reported
        assert any("cannot roll back" in note for note in error.__notes__)
        assert any(record.name.startswith("polydatum") for record in caplog.records)
        assert "db close" in shop.log
        assert "cache close" in shop.log
        assert shop.names == []

    def test_11_a_middleware_that_fails_on_entry_keeps_the_view_from_running(self, shop: Shop) -> None:
        shop.dm.register_context_middleware(shop.middleware("outer"), shop.middleware("inner"))
        failure = shop.fail("inner begin", RuntimeError("cannot begin"))
        called: list[bool] = []

        def view(request: Any) -> Reply:
            called.append(True)
            return Reply()

        answer = self.call(shop, view)

        assert answer.status == 500
        assert failure in answer.reported
        assert called == []
        assert shop.log[:3] == ["outer begin", "inner begin", "outer abort RuntimeError"]

    # --- 19: hooks --------------------------------------------------------------------------------------------------

    def test_19_hooks_run_once_and_change_nothing(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            context = shop.here()

            def hook() -> None:
                shop.log.append("on_commit")
                raise RuntimeError("hook")

            context.on_commit(hook)
            context.on_rollback(lambda: shop.log.append("on_rollback"))
            request.dal.items.add("tea")
            return Reply(200 if request_count() == 1 else 409)

        def request_count() -> int:
            return len(shop.contexts)

        assert self.call(shop, view).status == 200
        assert self.call(shop, view).status == 409
        shop.fail("db commit", RuntimeError("disk full"))
        shop.contexts.clear()
        assert self.call(shop, view).status == 500

        assert [line for line in shop.log if line.startswith("on_")] == ["on_commit", "on_rollback", "on_rollback"]
