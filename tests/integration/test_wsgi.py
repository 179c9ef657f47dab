"""wsgi_polydatum: what the contract of all adapters does not cover."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
import werkzeug
from werkzeug.test import Client

from polydatum import ConfigurationError, ContextClosedError, DataManager, NoActiveContextError, NotFound, ServiceError
from polydatum.adapting import InvalidManagerError, ManagerNotFoundError, UnsendableAnswerError
from polydatum.testing import Answer, Call, Reply
from polydatum.testing.shop import Shop, ShopDAL
from polydatum.testing.wire import environ_of, over_wsgi
from wsgi_polydatum import PolydatumWSGI, stream_context
from wsgi_polydatum.werkzeug import RequestMixin


class OutOfStock(ServiceError):
    code = 409


def get(app: Any, shop: Shop, **options: Any) -> Answer:
    return over_wsgi(app, Call(lambda request: Reply(), None, shop.log, **options))


class Body:
    """A body that counts how often it is closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        self.closed += 1


def test_the_import_needs_the_standard_library_only() -> None:
    code = "import sys, wsgi_polydatum, wsgi_polydatum.werkzeug; print(*(n for n in sys.modules if 'werkzeug' in n))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["wsgi_polydatum.werkzeug"], done.stderr


@pytest.mark.parametrize(
    ("given", "kind"),
    [(None, ManagerNotFoundError), ("no.such.dm", ManagerNotFoundError), (object(), InvalidManagerError)],
)
def test_20_a_missing_or_wrong_manager_is_found_out_at_once(given: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="PolydatumWSGI"):
        PolydatumWSGI(lambda environ, start_response: [], given)


@pytest.mark.parametrize("options", [{"teardown_timeout": 0}, {"rollback_on": "never"}, {"on_commit_error": "sorry"}])
def test_a_wrong_option_is_found_out_at_once(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PolydatumWSGI(lambda environ, start_response: [], DataManager(), **options)


# --- 60: the ways of PEP 3333 ----------------------------------------------------------------------------------------


def late_app(environ: Any, start_response: Any) -> Iterator[bytes]:
    """A generator: it calls start_response when it is read."""
    environ["polydatum.dal"].items.add("tea")
    start_response("200 OK", [("X-Own", "1")])
    yield b"one "
    yield b"two"


def writing_app(environ: Any, start_response: Any) -> list[bytes]:
    environ["polydatum.dal"].items.add("tea")
    write = start_response("200 OK", [("X-Own", "1")])
    write(b"one ")
    write(b"two")
    return []


@pytest.mark.parametrize("app", [late_app, writing_app])
def test_60_late_start_and_legacy_write_commit_before_the_headers(shop: Shop, app: Any) -> None:
    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.body, answer.header("x-own")) == (200, b"one two", "1")
    assert shop.log == ["db open", "db commit", "db close", "start 200"]
    assert shop.names == ["tea"]
    assert shop.is_left


@pytest.mark.parametrize("app", [late_app, writing_app])
def test_60_a_failed_commit_lets_nothing_out(shop: Shop, app: Any) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.headers, answer.body, answer.raised) == (500, [], b"", failure)
    assert shop.names == []
    assert shop.is_left


@pytest.mark.parametrize("fails", [False, True])
def test_60_the_body_is_closed_once_also_when_the_commit_fails(shop: Shop, fails: bool) -> None:
    body = Body(b"one ", b"two")
    if fails:
        shop.fail("db commit", RuntimeError("disk full"))

    def app(environ: Any, start_response: Any) -> Any:
        environ["polydatum.dal"].items.add("tea")
        start_response("200 OK", [])
        return body

    assert get(PolydatumWSGI(app, shop.dm), shop).status == (500 if fails else 200)
    assert body.closed == 1


@pytest.mark.parametrize("is_late", [False, True])
def test_60_a_client_that_leaves_closes_the_body_once(shop: Shop, is_late: bool) -> None:
    ended: list[str] = []

    def stream(start_response: Any = None) -> Iterator[bytes]:
        if start_response is not None:
            start_response("200 OK", [])
        try:
            yield b"one "
            yield b"two"
        finally:
            ended.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        if is_late:
            return stream(start_response)
        start_response("200 OK", [])
        return stream()

    environ = environ_of(Call(lambda request: Reply(), None))
    body: Any = PolydatumWSGI(app, shop.dm)(environ, lambda status, headers: lambda data: None)
    assert next(iter(body)) == b"one "
    body.close()
    assert ended == ["closed"]
    assert shop.is_left


@pytest.mark.parametrize(
    ("status", "headers", "body", "told"),
    [
        ("200 OK", [("X-Name", "účet")], [], "the header 'X-Name' has a character outside of Latin-1"),
        ("200 OK", [("X-Name", "a\nb")], [], "the header 'X-Name' has a control character"),
        ("200 OK", [("X-Name", 7)], [], "the header 'X-Name' has a value of type int, not str"),
        ("200 OK", [(b"X-Name", "a")], [], "a header has a name of type bytes, not str"),
        ("200 OK", [("X:Name", "a")], [], "the header 'X:Name' has an invalid name"),
        ("OK", [], [], "the status line is not like '200 OK'"),
        ("2000", [], [], "the status line is not like '200 OK'"),
        (b"200 OK", [], [], "the status line is of type bytes, not str"),
        ("200 OK", [], ["text"], "the body has a piece of type str, not bytes"),
        ("200 OK", [], ("text",), "the body has a piece of type str, not bytes"),
    ],
)
def test_01_60_an_answer_that_no_server_sends_keeps_nothing(
    shop: Shop, status: Any, headers: Any, body: Any, told: str
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        environ["polydatum.dal"].items.add("tea")
        start_response(status, headers)
        return body

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.headers) == (500, [])
    assert isinstance(answer.raised, UnsendableAnswerError)
    assert str(answer.raised).startswith(f"this answer cannot be sent: {told}")
    assert shop.names == []
    assert shop.is_left


def test_01_60_so_does_a_write_of_text(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        environ["polydatum.dal"].items.add("tea")
        start_response("200 OK", [])("text")

    assert isinstance(get(PolydatumWSGI(app, shop.dm), shop).raised, UnsendableAnswerError)
    assert shop.names == []


def test_01_60_an_application_may_answer_instead(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        try:
            start_response("200 OK", [("X-Name", "účet")])
        except UnsendableAnswerError:
            start_response("503 Sorry", [("X-Name", "ucet")])
        return [b"sorry"]

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.header("x-name"), answer.body) == (503, "ucet", b"sorry")


def test_60_a_status_line_may_lack_its_reason(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200", [])
        return []

    assert get(PolydatumWSGI(app, shop.dm), shop).status == 200


def test_60_headers_may_be_an_iterator(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", iter([("X-Name", "ucet")]))
        return []

    assert get(PolydatumWSGI(app, shop.dm), shop).headers == [("x-name", "ucet")]


def test_60_an_application_that_never_starts_rolls_back(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        shop.here()
        environ["polydatum.dal"].items.add("tea")
        return []

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert isinstance(answer.raised, AssertionError)
    assert shop.outcomes == ["rolled_back"]


def test_60_a_body_is_not_read_beyond_its_first_bytes_for_a_late_start(shop: Shop) -> None:
    read: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        for piece in (b"", b"", b"one", b"two"):
            read.append(piece)
            yield piece

    assert isinstance(get(PolydatumWSGI(app, shop.dm), shop).raised, AssertionError)
    assert read == [b"", b"", b"one"]


def test_60_a_late_start_may_follow_empty_pieces(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""  # as middleware does that is not ready to answer
        yield from late_app(environ, start_response)

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.body) == (200, b"one two")
    assert shop.log == ["db open", "db commit", "db close", "start 200"]


def test_60_an_error_page_may_replace_what_has_not_gone_out(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        shop.here()
        environ["polydatum.dal"].items.add("tea")
        start_response("200 OK", [("X-Own", "1")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("503 Service Unavailable", [], sys.exc_info())
        return [b"later"]

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.headers, answer.body) == (503, [], b"later")
    assert "db saw ZeroDivisionError" in shop.log
    assert shop.outcomes == ["rolled_back"]


def test_60_starting_twice_without_an_error_is_refused(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert isinstance(get(PolydatumWSGI(app, shop.dm), shop).raised, AssertionError)


def test_60_what_fails_after_the_start_is_the_servers_business(shop: Shop) -> None:
    error = ZeroDivisionError()
    told: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        try:
            raise error
        except ZeroDivisionError:
            start_response("500 Internal Server Error", [], sys.exc_info())

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        told.append(status)
        if exc_info:
            raise exc_info[1]
        return lambda data: None

    body = PolydatumWSGI(app, shop.dm)(environ_of(Call(lambda request: Reply(), None)), start_response)
    with pytest.raises(ZeroDivisionError):
        list(body)
    assert told == ["200 OK", "500 Internal Server Error"]


def test_04_the_exception_behind_an_error_page_is_the_cause(shop: Shop) -> None:
    """For rollback_on and the middleware; whether to roll back, the status decides."""
    seen: list[Any] = []

    def exceptions_only(error: BaseException | None, status: int | None) -> bool:
        seen.append((type(error), status))
        return error is not None

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["polydatum.dal"].items.add("tea")
        try:
            raise LookupError
        except LookupError:
            start_response("404 Not Found", [])
        return [b"own page"]

    answer = get(PolydatumWSGI(app, shop.dm, rollback_on=exceptions_only), shop)
    assert (answer.status, answer.body) == (404, b"own page")
    assert seen == [(LookupError, 404)]
    assert shop.names == []


@pytest.mark.parametrize(("status", "expected"), [("200 OK", 500), ("503 Service Unavailable", 503)])
def test_21_an_application_cannot_hide_a_failed_commit(shop: Shop, status: str, expected: int) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["polydatum.dal"].items.add("tea")
        write = start_response("200 OK", [])
        try:
            write(b"one")
        except RuntimeError:
            start_response(status, [], sys.exc_info())
        return [b"own page"]

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert answer.status == expected
    assert answer.raised is (failure if expected == 500 else None)


@pytest.mark.parametrize("then", ["list", "generator", "write"])
def test_01_60_an_application_that_swallows_a_failed_commit_does_not_send_its_success(shop: Shop, then: str) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))

    def app(environ: Any, start_response: Any) -> Any:
        environ["polydatum.dal"].items.add("tea")
        write = start_response("200 OK", [("X-Own", "1")])
        with contextlib.suppress(RuntimeError):
            write(b"one")
        if then == "write":
            write(b"two")
        return iter([b"two"]) if then == "generator" else [b"two"]

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.headers, answer.body, answer.raised) == (500, [], b"", failure)
    assert "start 200" not in shop.log
    assert shop.names == []


def test_05_60_what_was_rolled_back_becomes_no_success_in_its_body(shop: Shop) -> None:
    """Servers let an application replace its status until the first bytes are out."""
    error = ZeroDivisionError()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["polydatum.dal"].items.add("tea")
        start_response("503 Service Unavailable", [])

        def body() -> Iterator[bytes]:
            try:
                raise error
            except ZeroDivisionError:
                start_response("200 OK", [], sys.exc_info())
            yield b"all is well"

        return body()

    answer = get(PolydatumWSGI(app, shop.dm), shop)
    assert (answer.status, answer.body, answer.raised) == (503, b"", error)
    assert shop.names == []


@pytest.mark.parametrize("kind", ["list", "generator", "written", "error"])
def test_60_both_sides_keep_to_the_protocol(shop: Shop, kind: str) -> None:
    """By the validator of the standard library."""

    def app(environ: Any, start_response: Any) -> Any:
        environ["polydatum.dal"].items.add("tea")
        if kind == "error":
            raise NotFound("item 7")
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if kind == "written":
            write(b"one")
        return iter([b"two"]) if kind == "generator" else [b"two"]

    wrapped = validator(PolydatumWSGI(validator(app), shop.dm))
    answer = Client(wrapped, werkzeug.Response).get("/")
    with answer:
        assert answer.status_code == (404 if kind == "error" else 200)


def test_65_bodies_are_handed_on_as_they_are(shop: Shop, tmp_path: Any) -> None:
    """A server counts the pieces of a list, and sends the file of its own wrapper by itself."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        for body in ([b"one"], (b"one", b"two"), FileWrapper(file)):

            def app(environ: Any, start_response: Any, body: Any = body) -> Any:
                start_response("200 OK", [])
                return body

            environ = {**environ_of(Call(lambda request: Reply(), None)), "wsgi.file_wrapper": FileWrapper}
            assert PolydatumWSGI(app, shop.dm)(environ, lambda status, headers: lambda data: None) is body
            assert shop.is_left


# --- Options, users, requests ----------------------------------------------------------------------------------------


def add(environ: Any, start_response: Any) -> list[bytes]:
    environ["polydatum.dal"].items.add("tea")
    start_response("403 Forbidden" if "deny" in environ["QUERY_STRING"] else "200 OK", [])
    return [b"done"]


def test_04_rollback_on_of_the_middleware(shop: Shop) -> None:
    get(PolydatumWSGI(add, shop.dm), shop, query="deny")
    assert shop.names == []
    get(PolydatumWSGI(add, shop.dm, rollback_on=lambda error, status: error is not None), shop, query="deny")
    assert shop.names == ["tea"]


@pytest.mark.parametrize(
    ("status", "expected", "text"), [(409, 409, ""), (None, 500, ""), (200, 500, "status 200"), (0, 500, "no response")]
)
def test_23_on_commit_error_answers(
    shop: Shop, status: int | None, expected: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    failure = shop.fail("db commit", RuntimeError("serialization"))

    def handler(environ: Any, error: Exception) -> Any:
        assert error is failure
        if status == 0:
            raise LookupError("no response")
        return None if status is None else werkzeug.Response("again", status)

    answer = get(PolydatumWSGI(add, shop.dm, on_commit_error=handler), shop)
    assert answer.status == expected
    assert answer.raised is (None if expected == 409 else failure)
    assert text in caplog.text
    assert shop.names == []


def test_23_on_commit_error_is_not_asked_about_a_request_that_failed_before(shop: Shop) -> None:
    asked: list[Exception] = []

    @shop.dm.context_middleware
    def translate(context: Any) -> Iterator[None]:
        try:
            yield
        except ZeroDivisionError as error:
            raise RuntimeError("translated") from error

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Internal Server Error", [], sys.exc_info())
        return [b"own page"]

    answer = get(PolydatumWSGI(app, shop.dm, on_commit_error=lambda environ, error: asked.append(error)), shop)
    assert str(answer.raised) == "translated"
    assert asked == []


def test_23_what_on_commit_error_starts_and_does_not_finish_fails(shop: Shop) -> None:
    failure = shop.fail("db commit", OutOfStock("sold"))  # which would be answered

    def handler(environ: Any, error: Exception) -> Any:
        def response(environ: Any, start_response: Any) -> Any:
            start_response("503 Service Unavailable", [])
            raise LookupError

        return response

    assert get(PolydatumWSGI(add, shop.dm, on_commit_error=handler), shop).raised is failure


def test_14_the_user_is_the_servers(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [str(shop.here().meta.user).encode()]

    environ = {**environ_of(Call(lambda request: Reply(), None)), "REMOTE_USER": "ann", "HTTP_REMOTE_USER": "mallory"}
    assert PolydatumWSGI(app, shop.dm)(environ, lambda status, headers: lambda data: None) == [b"ann"]


def test_18_a_stream_has_a_context_of_its_own(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        def rows() -> Iterator[bytes]:
            with stream_context(environ) as context:
                shop.contexts.append(context)
                assert context.meta.params["page"] == "2"
                yield b"one"
                context.dal.items.add("streamed")
                yield b"two"
            with pytest.raises(ContextClosedError):
                environ["polydatum.dal"].items.names()

        start_response("200 OK", [])
        return rows()

    assert get(PolydatumWSGI(app, shop.dm), shop, query="page=2").body == b"onetwo"
    assert (shop.names, shop.outcomes) == (["streamed"], ["committed"])

    environ = environ_of(Call(lambda request: Reply(), None, query="page=2"))
    body: Any = PolydatumWSGI(app, shop.dm)(environ, lambda status, headers: lambda data: None)
    assert [next(body), next(body)] == [b"one", b"two"]
    body.close()  # as a server does whose client has left
    assert shop.log[-1] == "db close"
    assert shop.names == ["streamed"]


def test_04_rollback_on_of_the_middleware_holds_for_streams(shop: Shop) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        def rows() -> Iterator[bytes]:
            with contextlib.suppress(ZeroDivisionError), stream_context(environ) as context:
                context.dal.items.add("audit")
                raise ZeroDivisionError
            yield b"audited"

        start_response("200 OK", [])
        return rows()

    assert get(PolydatumWSGI(app, shop.dm, rollback_on=lambda exc, status: False), shop).body == b"audited"
    assert shop.names == ["audit"]


def test_18_the_stream_helper_needs_the_middleware() -> None:
    with pytest.raises(NoActiveContextError, match="PolydatumWSGI"):
        stream_context({})


def test_15_inside_another_manager_each_application_has_its_own(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    inner = Shop(tmp_path / "inner")
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["polydatum.dal"].items.add("tea")
        seen.append(environ["polydatum.context"].data_manager)
        start_response("200 OK", [])
        return [b"done"]

    inside = PolydatumWSGI(app, inner.dm)

    def between(environ: Any, start_response: Any) -> Any:
        body = inside(environ, start_response)
        environ["polydatum.dal"].items.add("milk")
        seen.append(environ["polydatum.context"].data_manager)
        return body

    assert get(PolydatumWSGI(between, shop.dm), shop).body == b"done"
    assert seen == [inner.dm, shop.dm]
    assert (inner.names, shop.names) == (["tea"], ["milk"])
    assert shop.is_left
    assert inner.is_left


class Request(RequestMixin[ShopDAL], werkzeug.Request):
    pass


def test_13_requests_of_werkzeug_have_the_dal(shop: Shop) -> None:
    @Request.application
    def app(request: Request) -> werkzeug.Response:
        request.dal.items.add("tea")
        assert request.dal is request.environ["polydatum.dal"]
        return werkzeug.Response("done")

    assert Client(PolydatumWSGI(app, shop.dm)).get("/").text == "done"
    assert shop.names == ["tea"]
    with pytest.raises(NoActiveContextError, match="PolydatumWSGI"):
        Client(app).get("/")


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "503 Service Unavailable"])
def test_a_request_leaves_no_cyclic_garbage(shop: Shop, status: str) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ["polydatum.dal"].items.add("tea")
        if status.startswith("503"):
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                start_response(status, [], sys.exc_info())
        else:
            start_response(status, [])
        return [b"done"]

    def request() -> None:
        environ = environ_of(Call(lambda request: Reply(), None))
        app(environ, lambda status, headers, exc_info=None: lambda data: None)

    app = PolydatumWSGI(application, shop.dm)
    request()  # fills caches
    gc.collect()
    gc.disable()
    try:
        request()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_16_a_stream_that_is_not_read_to_its_end_leaves_nothing_behind(shop: Shop) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        dal = environ["polydatum.dal"]
        start_response("200 OK", [])
        yield b"one"
        with pytest.raises(ContextClosedError):
            dal.items.names()
        with stream_context(environ) as ctx:
            yield b"two"
            assert shop.dm.require_active_context() is ctx
            yield b"three"

    with shop.dm.context() as outer:
        environ = environ_of(Call(lambda request: Reply(), None))
        body = iter(PolydatumWSGI(application, shop.dm)(environ, lambda status, headers: lambda data: None))
        for expected in (b"one", b"two", b"three"):
            assert next(body) == expected
            assert shop.dm.require_active_context() is outer
        assert outer.dal.items.names() == []
    assert shop.is_left


def test_18_a_context_that_a_body_opens_before_its_first_bytes_is_current_in_it(shop: Shop) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        with shop.dm.context() as own:
            start_response("200 OK", [])
            for _ in range(2):
                yield str(shop.dm.get_active_context() is own).encode()

    assert get(PolydatumWSGI(application, shop.dm), shop).body == b"TrueTrue"
    assert shop.is_left


def test_64_a_request_and_its_streams_have_one_id(shop: Shop) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-Id", shop.here().meta.request_id)])
        for _ in range(2):
            with stream_context(environ) as ctx:
                yield f"{ctx.meta.request_id} ".encode()

    answer = get(PolydatumWSGI(application, shop.dm), shop)
    assert answer.body.decode().split() == [answer.header("X-Id")] * 2
