"""What is committed, depending on the status, on exceptions, and on code that swallows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polydatum import Context
from polydatum.testing.hosts import Call, Reply
from polydatum.testing.shop import Shop

from .suite import Suite


def only_exceptions(error: BaseException | None, status: int | None) -> bool:
    return error is not None


class Outcomes(Suite):
    """Commit or roll back."""

    # --- 3 to 6: commit or roll back ------------------------------------------------------------------------------

    def test_03_an_uncaught_exception_rolls_back_and_is_reported(self, shop: Shop) -> None:
        error = ZeroDivisionError("no")
        shop.fail("db rollback", RuntimeError("teardown"))

        def view(request: Any) -> Reply:
            shop.here()
            request.dal.items.add("tea")
            raise error

        answer = self.call(shop, view)

        assert answer.status == 500
        assert "db saw ZeroDivisionError" in shop.log
        assert shop.names == []
        assert shop.outcomes == ["rolled_back"]
        assert error in answer.reported
        assert answer.raised in (None, error)

    def test_04_a_raised_error_status_rolls_back_and_is_answered_as_ever(self, shop: Shop) -> None:
        for status in self.host.abort_statuses:

            def view(request: Any, status: int = status) -> Reply:
                request.dal.items.add("tea")
                raise self.host.abort(status)

            def bare_view(request: Any, status: int = status) -> Reply:
                raise self.host.abort(status)

            answer = self.call(shop, view)
            bare = self.host.call(Call(bare_view, None))

            assert (answer.status, answer.body) == (status, bare.body)
            assert answer.headers == bare.headers
            assert shop.names == []

    @pytest.mark.parametrize("status", [400, 404, 409, 422])
    def test_04_a_returned_error_status_rolls_back(self, shop: Shop, status: int) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply(status, b"own words")

        answer = self.call(shop, view)

        assert (answer.status, answer.body) == (status, b"own words")
        assert "db saw RolledBack" in shop.log
        assert shop.names == []

    def test_04_exceptions_only_commits_what_was_returned(self, tmp_path: Path) -> None:
        shop = Shop(tmp_path, rollback_on=only_exceptions)

        def returns(request: Any) -> Reply:
            request.dal.items.add("returned")
            return Reply(404)

        assert self.call(shop, returns).status == 404
        assert shop.names == ["returned"]

    def test_04_exceptions_only_rolls_back_what_was_raised(self, tmp_path: Path) -> None:
        self.needs("causes")
        shop = Shop(tmp_path, rollback_on=only_exceptions)
        for status in self.host.abort_statuses:

            def raises(request: Any, status: int = status) -> Reply:
                request.dal.items.add("raised")
                raise self.host.abort(status)

            assert self.call(shop, raises).status == status
        assert shop.names == []

    @pytest.mark.parametrize("status", [500, 503])
    def test_05_a_returned_server_error_rolls_back(self, shop: Shop, status: int) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply(status)

        assert self.call(shop, view).status == status
        assert shop.names == []

    @pytest.mark.parametrize("status", [204, 301, 302, 303, 304])
    def test_05_a_redirect_or_an_empty_answer_commits(self, shop: Shop, status: int) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply(status, b"")

        assert self.call(shop, view).status == status
        assert shop.names == ["tea"]

    def test_06_commit_on_error(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("failed login")
            shop.here().commit_on_error()
            return Reply(401)

        assert self.call(shop, view).status == 401
        assert shop.names == ["failed login"]

    def test_06_set_rollback_only(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("dry run")
            shop.here().set_rollback_only()
            return Reply(200)

        assert self.call(shop, view).status == 200
        assert shop.names == []

    # --- 62, 66, 67: nobody is lied to ----------------------------------------------------------------------------

    def test_62_66_a_swallowed_exception_is_raised_again_and_everything_rolls_back(self, shop: Shop) -> None:
        error = ZeroDivisionError("swallowed")

        def swallow(context: Context) -> Iterator[None]:
            try:
                yield
            except:  # noqa: E722 - as in a widely copied example
                shop.log.append("swallowed")

        shop.dm.register_context_middleware(shop.middleware("outer"), swallow)

        def view(request: Any) -> Reply:
            shop.here()
            request.dal.items.add("tea")
            raise error

        answer = self.call(shop, view)

        assert answer.status == 500
        assert error in answer.reported
        assert "swallowed" in shop.log
        assert "outer abort RolledBack" in shop.log
        assert "db saw RolledBack" in shop.log
        assert shop.names == []
        (context,) = shop.contexts
        assert context.outcome == "rolled_back"
        assert context.outcome is not None
        assert context.outcome.suppressed is error

    def test_66_an_interrupt_cannot_be_swallowed(self, shop: Shop) -> None:
        @shop.dm.context_middleware
        def swallow(context: Context) -> Iterator[None]:
            try:
                yield
            except:  # noqa: E722 - as in a widely copied example
                shop.log.append("swallowed")

        def view(request: Any) -> Reply:
            shop.here()
            request.dal.items.add("tea")
            raise SystemExit(3)

        self.needs("exits")
        answer = self.call(shop, view)

        assert isinstance(answer.raised, SystemExit)
        assert shop.log[-1] == "db close"
        assert shop.names == []
        assert shop.outcomes == ["rolled_back"]

    def test_67_of_two_that_commit_after_their_yield_the_second_rolls_back_with_the_first(self, shop: Shop) -> None:
        failure = shop.fail("cache commit", RuntimeError("flush"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            assert shop.here().cache == {}
            return Reply()

        answer = self.call(shop, view)

        assert answer.status == 500
        assert failure in answer.reported
        assert shop.names == []
        assert shop.outcomes != ["committed"]
