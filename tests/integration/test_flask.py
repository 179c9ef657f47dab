"""flask_polydatum: what the contract of all adapters does not cover.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import InternalServerError
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Request

import flask_polydatum
from flask_polydatum import FlaskPolydatum, stream_context
from polydatum import (
    AsyncResourceError,
    ConfigurationError,
    Context,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    NotFound,
    ServiceError,
    bind,
)
from polydatum.adapting import InvalidManagerError, ManagerNotFoundError, UnsendableAnswerError
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
    (object(), InvalidManagerError, "got an object of type object"),
    (DataManager, InvalidManagerError, "got the class DataManager"),
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
    assert app.extensions["polydatum"].data_manager is shop.dm


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


def test_45_teardown_functions_run_once_when_the_context_has_ended(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for one in (shop, Shop(tmp_path / "other")):
        app = flask.Flask("shop")
        blueprint = flask.Blueprint("things", __name__)
        for _ in range(2):
            flask_polydatum.init_app(app, one.dm)

        def teardown(error: BaseException | None, log: list[str] = one.log) -> None:
            with pytest.raises(ContextClosedError):
                current_flask_request().dal  # noqa: B018
            log.append("teardown")

        @blueprint.get("/add")
        def add() -> str:
            current_flask_request().dal.items.add("tea")
            return "added"

        app.teardown_request(teardown)
        blueprint.teardown_request(teardown)
        app.register_blueprint(blueprint)
        assert app.test_client().get("/add").text == "added"
        assert one.log == ["db open", "db commit", "db close", "teardown", "teardown"]
        assert one.is_left


def test_45_a_blueprint_has_the_dal(app: flask.Flask, client: Any) -> None:
    blueprint = flask.Blueprint("shop", __name__)

    @blueprint.get("/blue")
    def blue() -> Any:
        return current_flask_request().dal.items.names()

    app.register_blueprint(blueprint)
    assert client.get("/blue").json == []


class NextFlask(flask.Flask):
    """Flask 3.2 hands the context to every step of the dispatch."""

    def __init__(self, *args: Any) -> None:
        self.taken: list[Any] = []
        super().__init__(*args)

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        ctx = self.request_context(environ)
        step: Any = self
        try:
            ctx.push()
            try:
                response = step.full_dispatch_request(ctx)
            except Exception as error:
                response = step.handle_exception(ctx, error)
            return response(environ, start_response)
        finally:
            ctx.pop()

    def full_dispatch_request(self, ctx: Any = None) -> Any:
        self.taken.append("dispatch")
        step: Any = self
        try:
            answer = self.preprocess_request() or self.dispatch_request()
        except Exception as error:
            answer = step.handle_user_exception(ctx, error)
        return step.finalize_request(ctx, answer)

    def handle_user_exception(self, ctx: Any, e: Exception) -> Any:  # type: ignore[override]
        self.taken.append("user")
        return super().handle_user_exception(e)

    def finalize_request(self, ctx: Any, rv: Any, from_error_handler: bool = False) -> Any:  # type: ignore[override]
        self.taken.append("finalize")
        return super().finalize_request(rv, from_error_handler)

    def handle_exception(self, ctx: Any, e: Exception) -> Any:  # type: ignore[override]
        self.taken.append("exception")
        step: Any = self
        self.log_exception((type(e), e, e.__traceback__))
        return step.finalize_request(ctx, InternalServerError(original_exception=e), from_error_handler=True)


def busy(request: flask.Request, error: Exception) -> Any:
    return None if isinstance(error, ServiceError) else ("busy", 503)


@pytest.mark.parametrize(
    ("path", "failure", "status", "steps"),
    [
        ("/add", None, 200, "dispatch finalize"),
        ("/nowhere", None, 404, "dispatch user finalize"),
        ("/missing", None, 404, "dispatch user finalize"),
        ("/broken", None, 500, "dispatch user exception finalize"),
        ("/add", RuntimeError("disk full"), 503, "dispatch finalize finalize"),
        ("/add", NotFound("gone meanwhile"), 404, "dispatch finalize user finalize"),
        ("/add", ServiceError("broken"), 500, "dispatch finalize exception finalize"),
    ],
)
def test_45_the_steps_take_what_flask_passes(
    shop: Shop, path: str, failure: Exception | None, status: int, steps: str
) -> None:
    app = NextFlask("shop")
    flask_polydatum.init_app(app, shop.dm, on_commit_error=busy)

    @app.get("/add")
    def add() -> str:
        current_flask_request().dal.items.add("tea")
        return "added"

    @app.get("/missing")
    def missing() -> str:
        raise NotFound("item 7")

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("no")

    if failure is not None:
        shop.fail("db commit", failure)
    assert app.test_client().get(path).status_code == status
    assert app.taken == steps.split()
    assert shop.names == (["tea"] if status == 200 else [])


# --- request.dal ----------------------------------------------------------------------------------------------------


def test_13_a_template_has_the_dal(app: flask.Flask, client: Any) -> None:
    @app.get("/page")
    def page() -> str:
        current_flask_request().dal.items.add("tea")
        return flask.render_template_string("{{ request.dal.items.names() }}")

    assert client.get("/page").text == "[&#39;tea&#39;]"


def test_13_it_is_one_object_wherever_the_context_is_open(shop: Shop, app: flask.Flask, client: Any) -> None:
    seen: list[Any] = []

    def look(*args: Any) -> None:
        seen.append(current_flask_request().dal)

    app.before_request(look)
    app.after_request(lambda response: (look(), response)[1])
    app.context_processor(lambda: {"own": look()})
    app.register_error_handler(LookupError, lambda error: (look(), flask.render_template_string("{{ own }}"))[1])
    app.add_url_rule("/look", view_func=lambda: (look(), [][0]))

    assert client.get("/look").text == "None"
    assert seen == [shop.dm.get_dal()] * 5


def test_13_a_request_that_nobody_dispatches_has_no_dal(app: flask.Flask) -> None:
    with app.test_request_context("/"):
        with pytest.raises(NoActiveContextError, match="the request was not dispatched by Flask"):
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


@pytest.mark.parametrize("is_async", [False, True])
def test_47_an_async_resource_is_refused_before_it_runs(
    shop: Shop, app: flask.Flask, client: Any, is_async: bool
) -> None:
    async def pg(context: Context) -> AsyncIterator[int]:
        shop.log.append("pg open")
        yield 1

    shop.dm.register_resources(pg=pg)

    def sync_view() -> str:
        return str(shop.here().pg + 1)

    async def async_view() -> str:
        return str(await shop.here().pg)

    app.add_url_rule("/pg", view_func=async_view if is_async else sync_view)
    with logged_exceptions() as logged:
        assert client.get("/pg").status_code == 500
    (error,) = logged
    assert isinstance(error, AsyncResourceError)
    assert "'pg'" in str(error)
    assert shop.log == []
    assert shop.outcomes == ["rolled_back"]


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


def test_41_meta_can_be_read_in_the_500_handler(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/broken")
    def broken() -> str:
        flask.g.context = shop.dm.require_active_context()
        raise ZeroDivisionError("no")

    @app.errorhandler(500)
    def handle(error: InternalServerError) -> Any:
        return f"{flask.g.context.meta.request_id} {flask.g.context.outcome}", 500

    assert client.get("/broken", headers={"X-Request-Id": "web-1"}).text == "web-1 rolled_back"


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


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: ("", {"X-Name": "účet"}), "the header 'X-Name' has a character outside of Latin-1"),
        (lambda: ("", {"X-Name": "a\x00b"}), "the header 'X-Name' has a control character"),
        (lambda: ("", {"X Name": "a"}), "the header 'X Name' has an invalid name"),
        (lambda: flask.Response("", "banana"), "the status line is not like '200 OK'"),
        (lambda: flask.Response([b"1", 2]), "the body has a piece of type int, not bytes"),  # type: ignore[list-item]
    ],
)
def test_01_an_answer_that_no_server_sends_keeps_nothing(
    shop: Shop, app: flask.Flask, client: Any, answer: Callable[[], Any], told: str
) -> None:
    @app.get("/bad")
    def bad() -> Any:
        current_flask_request().dal.items.add("tea")
        flask.session["bought"] = "tea"
        return answer()

    @app.errorhandler(500)
    def handle(error: InternalServerError) -> str:  # forgets the status
        assert isinstance(error.original_exception, UnsendableAnswerError)
        return str(error.original_exception)

    reply = client.get("/bad")
    assert reply.status_code == 500
    assert reply.text.startswith(f"this answer cannot be sent: {told}")
    assert "Set-Cookie" not in reply.headers
    assert shop.names == []
    assert shop.is_left


def test_01_what_werkzeug_encodes_itself_is_sent(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/moved")
    def moved() -> Any:
        current_flask_request().dal.items.add("tea")
        return flask.redirect("/účet")

    assert client.get("/moved").headers["Location"] == "/%C3%BA%C4%8Det"
    assert shop.names == ["tea"]


def test_01_a_session_in_a_store_is_not_saved_for_an_answer_that_no_server_sends(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.session_interface = sessions = StoredSessions()
    flask_polydatum.init_app(app, shop.dm)

    @app.get("/")
    def log_in() -> Any:
        flask.session["user"] = "ann"
        return "", {"X-Name": "účet"}

    assert app.test_client().get("/").status_code == 500
    assert sessions.store == {}


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


class StoredSession(dict[str, Any], SessionMixin):
    modified = True


class StoredSessions(SessionInterface):
    """Sessions that are kept by the server, as those of Flask-Session."""

    def __init__(self) -> None:
        self.store: dict[str, Any] = {}

    def open_session(self, app: flask.Flask, request: flask.Request) -> StoredSession:
        return StoredSession(self.store)

    def save_session(self, app: flask.Flask, session: Any, response: flask.Response) -> None:
        if session.modified:
            self.store = dict(session)


@pytest.mark.parametrize("installed", ["before", "after"])
def test_01_a_session_in_a_store_is_saved_when_the_commit_has_succeeded(shop: Shop, installed: str) -> None:
    app = flask.Flask("shop")
    sessions = StoredSessions()
    if installed == "before":
        app.session_interface = sessions
    flask_polydatum.init_app(app, shop.dm, on_commit_error=lambda request, error: request.args.get("answer"))
    app.session_interface = sessions

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        if shop.dm.get_active_context() is not None:
            current_flask_request().dal.items.add("after")
        response.headers["X-After"] = "ran"
        return response

    @app.get("/log_in/<user>")
    def log_in(user: str) -> Any:
        flask.session["user"] = user
        return "", int(flask.request.args.get("status", 200))

    client = app.test_client()
    assert client.get("/log_in/ann").status_code == 200
    assert sessions.store == {"user": "ann"}
    shop.fail("db commit", RuntimeError("disk full"))
    assert client.get("/log_in/bob").status_code == 500
    assert sessions.store == {"user": "ann"}
    answer = client.get("/log_in/bob?answer=busy")
    assert (answer.status_code, answer.headers["X-After"]) == (500, "ran")  # 200 is no answer to a failed commit
    assert sessions.store == {"user": "ann"}
    assert client.get("/log_in/bob?status=401").status_code == 401  # rolled back, and the session is the view's own
    assert sessions.store == {"user": "bob"}
    assert shop.names == ["after"]
    assert shop.is_left


def test_01_a_commit_error_handler_answers_for_a_session_in_a_store_too(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.session_interface = sessions = StoredSessions()
    flask_polydatum.init_app(app, shop.dm, on_commit_error=lambda request, error: ("busy", 503))

    @app.get("/")
    def log_in() -> str:
        flask.session["user"] = "ann"
        current_flask_request().dal.items.add("tea")
        return "welcome"

    shop.fail("db commit", RuntimeError("disk full"))
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (503, "busy")
    assert sessions.store == {}


@pytest.mark.parametrize("path", ["/broken", "/add"])
def test_41_the_error_in_after_request_functions_of_a_500_says_why(
    shop: Shop, app: flask.Flask, client: Any, path: str
) -> None:
    errors: list[Exception] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        if response.status_code == 500:
            with pytest.raises(ContextClosedError) as raised:
                current_flask_request().dal  # noqa: B018
            errors.append(raised.value)
        return response

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("no")

    shop.fail("db commit", RuntimeError("disk full"))
    assert client.get(path).status_code == 500
    (error,) = errors
    assert "the request has failed" in str(error)


@pytest.mark.parametrize("registered", ["before", "after"])
@pytest.mark.parametrize("status", [200, 401])
def test_43_an_early_answer_closes_normally(shop: Shop, registered: str, status: int) -> None:
    app = flask.Flask("shop")
    if registered == "after":
        flask_polydatum.init_app(app, shop.dm)

    @app.before_request
    def early() -> Any:
        shop.here()
        current_flask_request().dal.items.add("early")
        return "early", status

    if registered == "before":
        flask_polydatum.init_app(app, shop.dm)
    app.add_url_rule("/", view_func=lambda: "late")

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (status, "early")
    assert shop.names == (["early"] if status == 200 else [])
    assert shop.outcomes == ["committed" if status == 200 else "rolled_back"]
    assert shop.is_left


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


def test_07_ten_threads_of_a_request_open_a_resource_once(shop: Shop, app: flask.Flask, client: Any) -> None:
    start = threading.Barrier(10, timeout=5)

    @app.get("/threads")
    def threads() -> str:
        def use() -> Any:
            start.wait()
            return shop.dm.require_active_context().cache

        with ThreadPoolExecutor(10) as pool:
            uses = [pool.submit(bind(use)) for _ in range(10)]
        (cache, *others) = [one.result() for one in uses]
        assert all(one is cache for one in others)
        return "used"

    assert client.get("/threads").text == "used"
    assert shop.log == ["cache open", "cache commit", "cache close"]


def test_66_an_interrupt_reaches_the_server(shop: Shop, app: flask.Flask) -> None:
    interrupt = KeyboardInterrupt()

    @shop.dm.context_middleware
    def swallow(context: Context) -> Iterator[None]:
        with contextlib.suppress(BaseException):
            yield

    @app.get("/stop")
    def stop() -> str:
        shop.here()
        current_flask_request().dal.items.add("tea")
        raise interrupt

    answer = over_wsgi(app, Call(lambda request: Reply(), None, path="/stop"))
    assert answer.raised is interrupt
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]
    assert shop.is_left


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


def test_61_a_handler_of_the_status_answers(app: flask.Flask, client: Any) -> None:
    blueprint = flask.Blueprint("things", __name__, url_prefix="/things")

    @app.get("/missing")
    @blueprint.get("/missing")
    def missing() -> str:
        raise NotFound("item 7")

    @app.get("/odd")
    def odd() -> str:
        raise ServiceError("odd", code=499)

    async def page(error: Exception) -> Any:
        return f"no such page: {error.description}", 404  # type: ignore[attr-defined]

    app.register_error_handler(404, page)
    blueprint.register_error_handler(404, lambda error: (f"no such thing: {error.description}", 404))
    app.register_blueprint(blueprint)

    assert client.get("/missing").text == "no such page: item 7"
    assert client.get("/things/missing").text == "no such thing: item 7"
    assert client.get("/odd").status_code == 499


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


# --- Memory, other extensions ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("path", ["/", "/dal", "/meta", "/stream", "/handled", "/vetoed"])
def test_a_request_leaves_no_more_cyclic_garbage_than_flask(shop: Shop, path: str) -> None:
    def garbage(app: flask.Flask, *, has_dal: bool) -> int:
        views: dict[str, Callable[[], Any]] = {
            "/": lambda: "ok",
            "/dal": lambda: str(current_flask_request().dal.items.names() if has_dal else ""),
            "/meta": lambda: str(shop.here().meta.user if has_dal else ""),
            "/stream": lambda: flask.Response(iter(["one", "two"])),
            "/handled": lambda: [][0],
            "/vetoed": lambda: ("no", 400),
        }
        app.add_url_rule(path, view_func=views[path])
        app.register_error_handler(LookupError, lambda error: ("handled", 422))
        client = app.test_client()
        client.get(path).close()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                client.get(path).close()
            shop.contexts.clear()
            return gc.collect()
        finally:
            gc.enable()

    app = flask.Flask("shop")
    flask_polydatum.init_app(app, shop.dm)
    ours = garbage(app, has_dal=True)
    assert ours <= garbage(flask.Flask("bare"), has_dal=False)


def test_16_a_stream_that_is_not_read_to_its_end_leaves_nothing_behind(shop: Shop, app: flask.Flask) -> None:
    @app.get("/stream")
    def stream() -> Any:
        dal = current_flask_request().dal

        def body() -> Iterator[str]:
            for _ in range(2):
                with pytest.raises(ContextClosedError):
                    dal.items.names()
                yield "chunk"

        return flask.Response(body())

    with shop.dm.context() as outer:
        pieces, _, _ = run_wsgi_app(app, Request.from_values("/stream").environ, buffered=False)
        assert next(iter(pieces)) == b"chunk"
        assert shop.dm.require_active_context() is outer
        assert outer.dal.items.names() == []
    assert shop.is_left


def test_64_a_stream_has_the_request_id_of_its_request(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/stream")
    def stream() -> Any:
        request = current_flask_request()
        id = shop.here().meta.request_id

        def body() -> Iterator[str]:
            with stream_context(request) as ctx:
                yield f"{ctx.meta.request_id == id}"

        return flask.Response(body())

    assert client.get("/stream").text == "True"


def test_a_thread_without_an_app_is_told_to_bind(app: flask.Flask) -> None:
    with pytest.raises(NoActiveContextError, match=r"polydatum\.bind\(fn\)"):
        flask_polydatum.dal.items  # noqa: B018


def test_a_thread_with_a_copy_of_the_request_is_told_to_bind(shop: Shop, app: flask.Flask, client: Any) -> None:
    @app.get("/thread")
    def start() -> str:
        told: list[str] = []

        @flask.copy_current_request_context
        def work() -> None:
            with pytest.raises(NoActiveContextError) as raised:
                flask_polydatum.dal.items  # noqa: B018
            told.append(str(raised.value))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return told[0]

    assert "polydatum.bind(fn)" in client.get("/thread").text
