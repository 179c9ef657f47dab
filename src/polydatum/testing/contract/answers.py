"""What goes over the wire: nothing before the outcome is decided, and then an answer that agrees with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polydatum import Context, ContextClosedError, NotFound, ServiceError
from polydatum.testing.hosts import Reply
from polydatum.testing.shop import Shop

from .suite import Suite


class OutOfStock(ServiceError):
    code = 409


class Answers(Suite):
    """The answer waits for the commit, and reports its failure, or a `ServiceError`."""

    # --- 1, 2: the answer waits for the commit --------------------------------------------------------------------

    @pytest.mark.parametrize("status", [200, 201, 302])
    def test_01_a_failed_commit_is_500_and_nothing_of_the_answer_goes_out(self, shop: Shop, status: int) -> None:
        failure = shop.fail("db commit", RuntimeError("disk full"))

        def view(request: Any) -> Reply:
            shop.here()
            request.dal.items.add("tea")
            return Reply(status, b"created", {"Set-Cookie": "seen=1", "Location": "/things/8", "X-Own": "1"})

        answer = self.call(shop, view)

        assert answer.status == 500
        assert not {"set-cookie", "location", "x-own"} & {name for name, _ in answer.headers}
        assert b"created" not in answer.body
        assert failure in answer.reported
        assert shop.names == []
        assert shop.outcomes == ["rolled_back"]
        assert shop.log.count("start 500") == (0 if answer.raised is not None and not answer.headers else 1)

    @pytest.mark.parametrize("status", [200, 302])
    def test_02_everything_is_over_at_the_first_byte(self, shop: Shop, status: int) -> None:
        def view(request: Any) -> Reply:
            shop.here().on_commit(lambda: shop.log.append("on_commit"))
            request.dal.items.add("tea")
            return Reply(status)

        answer = self.call(shop, view)

        assert answer.status == status
        assert shop.log == ["db open", "db commit", "db close", "on_commit", f"start {status}"]
        assert shop.outcomes == ["committed"]
        assert shop.names == ["tea"]

    # --- 17: streamed bodies --------------------------------------------------------------------------------------

    def test_17_a_streamed_body_runs_after_the_context(self, shop: Shop) -> None:
        errors: list[Exception] = []

        def view(request: Any) -> Reply:
            dal = request.dal
            dal.items.add("tea")

            def body() -> Iterator[bytes]:
                yield b"one "
                touches: list[Callable[[], Any]] = [lambda: request.dal.items, lambda: dal.items.names()]
                for touch in touches:
                    try:
                        touch()
                    except Exception as error:
                        errors.append(error)
                yield b"two"

            return Reply(200, body())

        answer = self.call(shop, view)

        assert (answer.status, answer.body) == (200, b"one two")
        assert shop.log.index("db commit") < shop.log.index("start 200")
        assert shop.names == ["tea"]
        has_request = "request" not in self.host.absent  # otherwise it is the bare DAL, not a use of the context
        assert [type(error) for error in errors] == [ContextClosedError] * (2 if has_request else 1)
        if has_request:
            assert f"{self.host.adapter}.stream_context(" in str(errors[0])
        assert shop.is_left  # nothing stays behind

    def test_17_a_failed_commit_before_a_streamed_body_is_500(self, shop: Shop) -> None:
        shop.fail("db commit", RuntimeError("disk full"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply(200, iter([b"one ", b"two"]))

        answer = self.call(shop, view)

        assert answer.status == 500
        assert b"one" not in answer.body
        assert shop.names == []

    # --- 23: a commit that failed may have an answer -----------------------------------------------------------------

    def test_23_a_failed_commit_may_be_answered_and_is_logged(self, shop: Shop) -> None:
        self.needs("on_commit_error")
        failure = shop.fail("db commit", RuntimeError("disk full"))
        asked: list[Exception] = []

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply(200, b"added", {"Set-Cookie": "seen=1"})

        def busy(request: Any, error: Exception) -> Reply:
            asked.append(error)
            return Reply(503, b"busy", {"Retry-After": "1"})

        answer = self.call(shop, view, on_commit_error=busy)

        assert (answer.status, answer.body, answer.header("Retry-After")) == (503, b"busy", "1")
        assert answer.header("Set-Cookie") is None
        assert asked == answer.logged == [failure]
        assert answer.raised is None
        assert shop.names == []

    def test_23_an_answer_cannot_say_that_all_is_well(self, shop: Shop) -> None:
        self.needs("on_commit_error")
        failure = shop.fail("db commit", RuntimeError("disk full"))

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            return Reply()

        answer = self.call(shop, view, on_commit_error=lambda request, error: Reply(200, b"all is well"))

        assert answer.status == 500
        assert b"well" not in answer.body
        assert failure in answer.reported

    # --- 61: ServiceError -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "error", [NotFound("item <7>"), OutOfStock("item <7>"), ServiceError("item <7>", code=422)]
    )
    def test_61_a_service_error_is_answered_with_its_status(self, shop: Shop, error: ServiceError) -> None:
        def view(request: Any) -> Reply:
            shop.here()
            request.dal.items.add("tea")
            raise error

        answer = self.call(shop, view, headers={"Accept": "application/json"})
        assert answer.status == error.code
        assert answer.body == b'{"detail": "item <7>"}'
        assert answer.header("content-type") == "application/json"
        assert answer.raised is None

        answer = self.call(shop, view, headers={"Accept": "text/plain"})
        assert (answer.status, answer.body) == (error.code, b"item <7>")
        assert answer.header("content-type") == "text/plain; charset=utf-8"

        assert shop.names == []
        assert shop.outcomes == ["rolled_back", "rolled_back"]
        assert shop.log.count(f"db saw {type(error).__name__}") == 2

    @pytest.mark.parametrize(
        "error", [ServiceError("broken"), ServiceError("odd", code=302), ServiceError("x", code=503)]
    )
    def test_61_other_codes_are_exceptions_like_any(self, shop: Shop, error: ServiceError) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            raise error

        answer = self.call(shop, view)

        assert answer.status == 500
        assert error in answer.reported
        assert shop.names == []

    def test_61_a_handler_of_the_users_wins(self, shop: Shop) -> None:
        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            raise NotFound("item 7")

        def handler(request: Any, error: Exception) -> Reply:
            return Reply(410, b"gone")

        self.needs("handlers")
        for kind in (NotFound, ServiceError):
            answer = self.call(shop, view, handlers={kind: handler})
            assert (answer.status, answer.body) == (410, b"gone")
        assert shop.names == []

    def test_61_a_service_error_that_a_middleware_makes_of_another_is_answered(self, shop: Shop) -> None:
        @shop.dm.context_middleware
        def translate(context: Context) -> Iterator[None]:
            try:
                yield
            except LookupError as error:
                raise NotFound("translated") from error

        def view(request: Any) -> Reply:
            request.dal.items.add("tea")
            raise LookupError

        answer = self.call(shop, view)

        assert (answer.status, answer.body) == (404, b'{"detail": "translated"}')
        assert shop.names == []
