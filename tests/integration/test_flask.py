"""flask_polydatum: what the contract of all adapters does not cover.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.exceptions import InternalServerError
from werkzeug.test import run_wsgi_app

import flask_polydatum
from flask_polydatum import FlaskPolydatum, stream_context
from polydatum import (
    ConfigurationError,
    Context,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    NotFound,
    ServiceError,
)
from polydatum.adapting import InvalidManagerError, ManagerNotFoundError
from polydatum.testing import Call, Reply
from polydatum.testing.hosts import logged_exceptions
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_wsgi
from tests.contract.flask_hosts import current_flask_request


@pytest.fixture
def app(shop: Shop) -> flask.Flask:
    app = flask.Flask("shop")
    app.secret_key = "for tests only"
    flask_polydatum.init_app(app, shop.dm)

    @app.get("/names")
    def names() -> Any:
        return current_flask_request().dal.items.names()

    @app.get("/add")
    def add() -> str:
        flask.session["seen"] = True
        current_flask_request().dal.items.add("tea")
        return "added"

    return app


@pytest.fixture
def client(app: flask.Flask) -> Any:
    return app.test_client()


# --- Installing -----------------------------------------------------------------------------------------------------

WRONG: list[tuple[object, type[Exception], str]] = [
    (None, ManagerNotFoundError, "app.config['POLYDATUM_DATA_MANAGER']"),
    (object(), InvalidManagerError, "not an object of object"),
    (DataManager, InvalidManagerError, "not the class DataManager"),
    ("no_such_package.dm", ManagerNotFoundError, "cannot import 'no_such_package.dm'"),
]


@pytest.mark.parametrize(("given", "kind", "text"), WRONG)
def test_20_a_missing_or_wrong_manager_fails_in_init_app(given: Any, kind: type[Exception], text: str) -> None:
    installs: list[Callable[[flask.Flask], None]] = [
        lambda app: FlaskPolydatum(given).init_app(app),
        lambda app: flask_polydatum.init_app(app, given),
    ]
    for install in installs:
        with pytest.raises(kind) as raised:
            install(flask.Flask("shop"))
        assert text in str(raised.value)
    app = flask.Flask("shop")
    app.config["POLYDATUM_DATA_MANAGER"] = given
    with pytest.raises(kind):
        FlaskPolydatum().init_app(app)
    assert "polydatum" not in app.extensions


@pytest.mark.parametrize("spelling", ["object", "path"])
def test_the_manager_may_come_from_the_config(shop: Shop, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    monkeypatch.setattr(flask_polydatum, "shop_dm", shop.dm, raising=False)
    app = flask.Flask("shop")
    app.config["POLYDATUM_DATA_MANAGER"] = shop.dm if spelling == "object" else "flask_polydatum.shop_dm"
    FlaskPolydatum().init_app(app)
    assert app.extensions["polydatum"] is shop.dm


def test_45_one_extension_serves_many_apps(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Shop(folder)
    extension = FlaskPolydatum()
    for one in (shop, other):
        app = flask.Flask("shop")
        app.config["POLYDATUM_DATA_MANAGER"] = one.dm
        for _ in range(2):
            extension.init_app(app)

        @app.get("/")
        def add() -> str:
            current_flask_request().dal.items.add("tea")
            return "added"

        assert app.test_client().get("/").text == "added"
        assert one.names == ["tea"]
        assert one.log.count("db commit") == 1


def test_45_an_app_has_one_manager(app: flask.Flask) -> None:
    with pytest.raises(ConfigurationError, match="with another DataManager"):
        flask_polydatum.init_app(app, DataManager())


def test_45_a_blueprint_has_the_dal(app: flask.Flask, client: Any) -> None:
    blueprint = flask.Blueprint("shop", __name__)

    @blueprint.get("/blue")
    def blue() -> Any:
        return current_flask_request().dal.items.names()

    app.register_blueprint(blueprint)
    assert client.get("/blue").json == []


def test_45_dispatch_takes_what_flask_passes(shop: Shop) -> None:
    """Flask 3.2 hands the context to every step of the dispatch."""
    taken: list[Any] = []

    class Next(flask.Flask):
        def full_dispatch_request(self, ctx: Any = None) -> Any:
            taken.append(ctx)
            return super().full_dispatch_request()

        def handle_user_exception(self, *args: Any) -> Any:
            return super().handle_user_exception(args[-1])

    app = Next("shop")
    flask_polydatum.init_app(app, shop.dm)
    with app.test_request_context("/") as ctx:
        dispatch: Any = app.full_dispatch_request
        assert dispatch(ctx).status_code == 404
    assert taken == [ctx]


# --- request.dal ----------------------------------------------------------------------------------------------------


def test_13_a_template_has_the_dal(app: flask.Flask, client: Any) -> None:
    @app.get("/page")
    def page() -> str:
        current_flask_request().dal.items.add("tea")
        return flask.render_template_string("{{ request.dal.items.names() }}")

    assert client.get("/page").text == "[&#39;tea&#39;]"


def test_13_a_request_that_nobody_dispatches_has_no_dal(app: flask.Flask) -> None:
    with app.test_request_context("/"):
        with pytest.raises(NoActiveContextError, match="nobody dispatched this request"):
            current_flask_request().dal  # noqa: B018


def test_47_an_async_view_has_the_same_context(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.before_request
    def remember() -> None:
        shop.here()

    @app.get("/async")
    async def view() -> Any:
        assert shop.here() is shop.contexts[0]
        return current_flask_request().dal.items.names()

    assert client.get("/async").json == []


# --- What Flask does around the view --------------------------------------------------------------------------------


def test_41_the_500_handler_gets_the_commit_error_and_a_closed_dal(shop: Shop, app: flask.Flask, client: Any) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    seen: list[Any] = []

    @app.errorhandler(500)
    def handle(error: InternalServerError) -> Any:
        seen.append(error.original_exception)
        with pytest.raises(ContextClosedError, match="rolled_back"):
            current_flask_request().dal  # noqa: B018
        return "sorry", 500

    answer = client.get("/add")
    assert (answer.status_code, answer.text) == (500, "sorry")
    assert seen == [failure]
    assert "Set-Cookie" not in answer.headers


def test_01_after_a_failed_commit_the_session_is_what_the_client_sent(
    shop: Shop, app: flask.Flask, client: Any
) -> None:
    @app.get("/count")
    def count() -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        current_flask_request().dal.items.names()
        return str(flask.session["count"])

    @app.errorhandler(500)
    def handle(error: InternalServerError) -> Any:
        if flask.request.args:
            flask.session["failed"] = True
        return f"{dict(flask.session)}", 500

    assert client.get("/count").text == "1"
    shop.fail("db commit", RuntimeError("disk full"))
    assert client.get("/count").text == "{'count': 1}"
    assert "Set-Cookie" not in client.get("/count").headers
    assert "Set-Cookie" in client.get("/count?own=1").headers  # the handler's own
    shop.failures.clear()
    assert client.get("/count").text == "2"


def test_41_testing_raises_the_commit_error(shop: Shop, app: flask.Flask, client: Any) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    app.testing = True
    with pytest.raises(RuntimeError) as raised:
        client.get("/add")
    assert raised.value is failure


def test_42_session_and_after_request_functions_come_before_the_close(
    shop: Shop, app: flask.Flask, client: Any
) -> None:
    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        assert shop.here() is shop.dm.get_active_context()
        current_flask_request().dal.items.add("after")
        return response

    answer = client.get("/add")
    assert "Set-Cookie" in answer.headers
    assert shop.names == ["after", "tea"]


def test_43_an_early_answer_closes_normally(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.before_request
    def early() -> str:
        current_flask_request().dal.items.add("early")
        return "early"

    assert client.get("/add").text == "early"
    assert shop.names == ["early"]


def test_43_an_unknown_url_rolls_back(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.before_request
    def before() -> None:
        shop.here()
        current_flask_request().dal.items.add("before")

    assert client.get("/nowhere").status_code == 404
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


def test_44_a_preserved_request_has_ended(shop: Shop, app: flask.Flask) -> None:
    with app.test_client() as client:
        assert client.get("/add").text == "added"
        assert shop.names == ["tea"]
        with pytest.raises(ContextClosedError):
            current_flask_request().dal  # noqa: B018
        assert shop.dm.get_active_context() is None


def test_16_a_nested_call_has_its_own_context(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/outer")
    def outer() -> Any:
        context = shop.here()
        before = current_flask_request().dal.items.names()
        assert app.test_client().get("/add").text == "added"
        streamed = app.test_client().get("/stream")  # not closed
        assert streamed.text == "one two"
        assert context.state == "open"
        assert shop.dm.get_active_context() is context
        return [before, current_flask_request().dal.items.names()]

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(iter(["one ", "two"]))

    assert client.get("/outer").json == [[], ["tea"]]
    assert shop.outcomes == ["committed"]


def test_12_200_requests_at_once_do_not_see_each_other(shop: Shop, app: flask.Flask) -> None:
    def own(context: Context) -> Iterator[object]:
        yield object()

    shop.dm.register_resources(own=own)
    seen: list[Any] = []

    @app.get("/look/<number>")
    def look(number: str) -> str:
        context = shop.dm.require_active_context()
        mine = context.own
        threading.Event().wait(0.001)
        assert shop.dm.require_active_context() is context
        seen.append(mine)
        return str(context.meta.params["number"])

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: app.test_client().get(f"/look/{n}").text, range(200)))
    assert answers == [str(n) for n in range(200)]
    assert len({id(one) for one in seen}) == 200


# --- ServiceError ---------------------------------------------------------------------------------------------------


def test_61_after_request_functions_and_session_are_kept(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/missing")
    def missing() -> str:
        flask.session["seen"] = True
        current_flask_request().dal.items.add("tea")
        raise NotFound("item 7")

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-After"] = "1"
        return response

    answer = client.get("/missing")
    assert (answer.status_code, answer.json) == (404, {"detail": "item 7"})
    assert answer.headers["X-After"] == "1"
    assert "Set-Cookie" in answer.headers
    assert shop.names == []


def test_61_a_handler_registered_before_or_after_ours_wins(shop: Shop) -> None:
    for before in (True, False):
        app = flask.Flask("shop")
        if not before:
            flask_polydatum.init_app(app, shop.dm)
        app.register_error_handler(ServiceError, lambda error: ("own", 410))
        if before:
            flask_polydatum.init_app(app, shop.dm)

        @app.get("/")
        def missing() -> str:
            raise NotFound("item 7")

        answer = app.test_client().get("/")
        assert (answer.status_code, answer.text) == (410, "own")


def test_61_other_codes_reach_the_handler_for_every_exception(app: flask.Flask, client: Any) -> None:
    error = ServiceError("broken")
    seen: list[Exception] = []

    @app.errorhandler(Exception)
    def handle(error: Exception) -> Any:
        seen.append(error)
        return "any", 500

    @app.get("/broken")
    def broken() -> str:
        raise error

    assert client.get("/broken").text == "any"
    assert seen == [error]


def test_61_a_handler_that_raises_again_is_asked_once(shop: Shop, app: flask.Flask, client: Any) -> None:
    asked: list[Exception] = []

    @app.errorhandler(NotFound)
    def handle(error: NotFound) -> Any:
        asked.append(error)
        raise error

    @app.get("/missing")
    def missing() -> str:
        raise NotFound("item 7")

    with logged_exceptions() as logged:
        assert client.get("/missing").status_code == 500
    assert asked == logged


@pytest.mark.parametrize(("code", "status"), [(409, 409), (500, 500)])
def test_61_a_service_error_of_the_context_itself(
    shop: Shop, app: flask.Flask, client: Any, code: int, status: int
) -> None:
    @app.get("/late")
    def late() -> str:
        current_flask_request().dal.items.add("tea")
        error = ServiceError("sold out", code=code)

        @shop.here().before_commit  # type: ignore[untyped-decorator]
        def check() -> None:
            raise error

        return "ok"

    assert client.get("/late").status_code == status
    assert shop.names == []

    @shop.dm.context_middleware
    def refuse(context: Context) -> Iterator[None]:
        raise ServiceError("not today", code=code)
        yield

    assert client.get("/names").status_code == status


# --- Streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_context", [False, True])
def test_18_a_stream_has_a_context_of_its_own(shop: Shop, app: flask.Flask, client: Any, with_context: bool) -> None:
    @app.get("/stream/<int:id>")
    def stream(id: int) -> flask.Response:
        request: Any = flask.request if with_context else current_flask_request()
        request.dal.items.add("tea")

        def body() -> Iterator[str]:
            with stream_context(request) as context:
                shop.contexts.append(context)
                assert context.meta.params["id"] == 7
                yield from context.dal.items.names()
                context.dal.items.add("streamed")
            with pytest.raises(ContextClosedError):
                request.dal  # noqa: B018

        return flask.Response(flask.stream_with_context(body()) if with_context else body())

    assert client.get("/stream/7").text == "tea"
    assert shop.names == ["streamed", "tea"]
    assert shop.outcomes == ["committed"]
    assert shop.is_left


def test_18_a_client_that_leaves_ends_the_stream(shop: Shop, app: flask.Flask) -> None:
    @app.get("/stream")
    def stream() -> flask.Response:
        request = current_flask_request()

        def body() -> Iterator[bytes]:
            with stream_context(request) as context:
                shop.contexts.append(context)
                context.dal.items.add("half")
                yield b"one"
                yield b"two"

        return flask.Response(body())

    environ = app.test_request_context("/stream").request.environ
    body: Any = run_wsgi_app(app, environ)[0]
    assert next(iter(body)) == b"one"
    body.close()
    assert shop.names == []
    assert shop.log[-1] == "db close"
    assert shop.is_left


def test_18_the_stream_helper_needs_the_extension() -> None:
    with flask.Flask("bare").test_request_context("/"):
        with pytest.raises(NoActiveContextError, match="init_app"):
            stream_context(flask.request)


def test_a_streamed_body_that_nobody_reads_leaves_too(shop: Shop, app: flask.Flask) -> None:
    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(iter(["one"]))

    answer = over_wsgi(app, Call(lambda request: Reply(), None, method="HEAD", path="/stream"))
    assert answer.status == 200
    assert shop.is_left


def test_a_file_is_sent_as_it_is(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/file")
    def file() -> flask.Response:
        current_flask_request().dal.items.add("tea")
        return flask.send_file(__file__)

    with client.get("/file") as answer:
        assert answer.data.startswith(b'"""flask_polydatum')
    shop.fail("db commit", RuntimeError("disk full"))
    assert client.get("/file").status_code == 500  # and the file is closed: a ResourceWarning would fail this test
    gc.collect()


# --- ctx.meta -------------------------------------------------------------------------------------------------------


def test_14_the_user_is_flask_logins(shop: Shop, app: flask.Flask, client: Any) -> None:
    flask_login: Any = pytest.importorskip("flask_login")
    user = type("User", (flask_login.UserMixin,), {"id": "ann"})
    loaded: list[str] = []
    manager = flask_login.LoginManager(app)

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load(user_id: str) -> Any:
        loaded.append(user_id)
        return user()

    @app.get("/login")
    def login() -> str:
        flask_login.login_user(user())
        return "in"

    @app.get("/me")
    def me() -> str:
        meta = shop.here().meta
        assert meta.user is meta.user
        return str(meta.user.id)

    @app.get("/nobody")
    def nobody() -> str:
        return str(shop.here().meta.user.is_authenticated)

    assert client.get("/nobody").text == "False"
    assert client.get("/login").text == "in"
    assert client.get("/names").json == []
    assert loaded == []  # nobody read it
    assert client.get("/me").text == "ann"
    assert loaded == ["ann"]


@pytest.mark.parametrize("name", ["X-User", "X-Remote-User", "X-Forwarded-User", "Remote-User", "Authorization"])
def test_64_a_header_is_no_user(shop: Shop, app: flask.Flask, client: Any, name: str) -> None:
    @app.get("/me")
    def me() -> str:
        return str(shop.here().meta.user)

    assert client.get("/me", headers={name: "mallory"}).text == "None"


def test_an_app_is_freed_with_its_last_user(shop: Shop) -> None:
    app = flask.Flask("shop")
    flask_polydatum.init_app(app, shop.dm)
    assert app.test_client().get("/").status_code == 404
    gc.collect()
    gc.disable()
    try:
        freed = weakref.ref(app)
        del app
        assert freed() is None
    finally:
        gc.enable()


def test_45_what_another_extension_has_wrapped_is_called(shop: Shop) -> None:
    app: Any = flask.Flask("shop")
    dispatch, calls = app.full_dispatch_request, []

    def wrapped() -> Any:
        calls.append(shop.here())
        return dispatch()

    app.full_dispatch_request = wrapped
    flask_polydatum.init_app(app, shop.dm)
    assert app.test_client().get("/").status_code == 404
    assert len(calls) == 1


def test_a_request_leaves_no_more_cyclic_garbage_than_flask(shop: Shop) -> None:
    def garbage(app: flask.Flask) -> int:
        app.add_url_rule("/", view_func=lambda: "ok")
        client = app.test_client()
        client.get("/").close()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                client.get("/").close()
            return gc.collect()
        finally:
            gc.enable()

    bare = garbage(flask.Flask("bare"))
    app = flask.Flask("shop")
    flask_polydatum.init_app(app, shop.dm)
    assert garbage(app) <= bare
