"""What every adapter owes, whatever the framework: a suite that an adapter runs by naming its `Host`.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from polydatum import Context, ContextClosedError, NoActiveContextError, NotFound, ServiceError, bind

from .hosts import Answer, Call, Host, Reply
from .shop import Backend, Shop


class OutOfStock(ServiceError):
    code = 409


def only_exceptions(error: BaseException | None, status: int | None) -> bool:
    return error is not None


class AdapterContract:
    """The behaviours that all adapters share. Subclass it, and set ``host`` to a `Host`.

    ::

        class TestMyAdapter(AdapterContract):
            host = MyHost()

    Each test calls a view that works with a small shop on a SQLite file, and looks at what went over the wire, what was
    logged, what the resources did in which order, and what the file holds. Numbers in the names of tests are those of the
    list of behaviours in the documentation. A test that needs what the framework does not have is skipped with the reason
    that the host gives.
    """

    host: Host

    @pytest.fixture
    def shop(self, tmp_path: Path) -> Shop:
        return Shop(tmp_path)

    def needs(self, feature: str) -> None:
        """Skip the test if the framework does not have a feature, with the reason."""
        if feature in self.host.absent:
            pytest.skip(self.host.absent[feature])

    def call(self, shop: Shop, view: Any, **options: Any) -> Answer:
        return self.host.call(Call(view, shop.dm, shop.log, **options))

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
        has_request = "request" not in self.host.absent  # else it is the bare DAL, which is no use of the context
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

    # --- 62, 66, 67: nobody is lied to ----------------------------------------------------------------------------

    def test_62_66_a_swallowed_exception_is_raised_again_and_everything_rolls_back(self, shop: Shop) -> None:
        error = ZeroDivisionError("swallowed")

        def swallow(context: Context) -> Iterator[None]:
            try:
                yield
            except:  # noqa: E722 - as in the example that people copy
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
            except:  # noqa: E722 - as in the example that people copy
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

    # --- 12, 16: requests beside and inside each other ----------------------------------------------------------------

    def test_12_two_hundred_requests_at_once_do_not_see_each_other(self, shop: Shop) -> None:
        started = threading.Barrier(8, timeout=1)

        def view(request: Any) -> Reply:
            context = shop.here()
            number = context.meta.params["n"]
            with contextlib.suppress(threading.BrokenBarrierError):  # where requests do not overlap in threads
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
        assert seen[0] == seen[1]  # of one request there is one
        return seen[0]

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
            gc.collect()  # Django leaves the request's body open then, with and without an adapter

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
        """The answers without and with the adapter, which have to be the same."""
        bare = self.host.call(Call(view, None, **options))
        ours = self.call(shop, view, **options)
        assert (ours.status, ours.headers, ours.body) == (bare.status, bare.headers, bare.body)
        assert type(ours.raised) is type(bare.raised)
        assert "db open" not in shop.log
        return bare, ours


SPOOFED: list[list[tuple[str, str]]] = [
    [(name, value)] * times
    for name in ("X-User", "X-Remote-User", "X-Forwarded-User", "Remote-User", "X-Auth-Request-User")
    for value in ("mallory", "admin\r\nX-User: root", "root\x00", "")
    for times in (1, 2)
]
"""Headers by which proxies tell who asks; anybody can send them."""

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
