"""The settings of flask_polydatum, by argument and by ``app.config``, and what they do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest

import flask_polydatum
from flask_polydatum import FlaskPolydatum, init_app, stream_context
from polydatum import ConfigurationError, Context, ContextClosedError, NotFound
from polydatum.testing.hosts import logged_exceptions
from polydatum.testing.shop import Shop
from tests.contract.flask_hosts import current_flask_request


def only_exceptions(error: BaseException | None, status: int | None) -> bool:
    return error is not None


def nothing(error: BaseException | None, status: int | None) -> bool:
    return False


async def never(request: flask.Request, error: Exception) -> None:
    raise AssertionError


SETTINGS = {"rollback_on": only_exceptions, "teardown_timeout": 0.001, "on_commit_error": never}
WAYS = ["argument", "config", "path"]


def installed(shop: Shop, way: str = "argument", **settings: Any) -> flask.Flask:
    """An app with settings given in one of the ways."""
    app = flask.Flask("shop")
    app.secret_key = "for tests only"
    if way == "argument":
        FlaskPolydatum(shop.dm, **settings).init_app(app)
    else:
        for name, value in settings.items():
            is_path = way == "path" and callable(value)
            app.config[f"POLYDATUM_{name.upper()}"] = f"{__name__}.{value.__name__}" if is_path else value
        FlaskPolydatum(shop.dm).init_app(app)

    @app.route("/add/<int:status>", methods=["GET", "POST"])
    def add(status: int) -> Any:
        shop.here()
        flask.session["seen"] = True
        current_flask_request().dal.items.add("tea")
        return "added", status, {"X-Own": "1"}

    return app


# --- rollback_on and teardown_timeout ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_04_rollback_on_decides_for_the_requests_of_an_app(shop: Shop, way: str) -> None:
    app = installed(shop, way, rollback_on=only_exceptions)

    assert app.test_client().get("/add/404").status_code == 404
    assert shop.names == ["tea"]
    with pytest.raises(ValueError), shop.dm.dal() as dal:
        dal.items.add("milk")
        raise ValueError
    assert shop.names == ["tea"]


def test_04_rollback_on_holds_for_streams(shop: Shop) -> None:
    app = installed(shop, rollback_on=nothing)

    @app.get("/stream")
    def stream() -> flask.Response:
        request = current_flask_request()

        def body() -> Iterator[str]:
            with contextlib.suppress(ZeroDivisionError), stream_context(request) as context:
                context.dal.items.add("audit")
                raise ZeroDivisionError
            yield "audited"

        return flask.Response(body())

    assert app.test_client().get("/stream").text == "audited"
    assert shop.names == ["audit"]


@pytest.mark.parametrize("is_command", [False, True])
def test_04_rollback_on_holds_for_commands_and_scripts(shop: Shop, is_command: bool) -> None:
    app = installed(shop, rollback_on=nothing)

    @app.cli.command("add")
    @flask_polydatum.with_context
    def command() -> None:
        flask_polydatum.dal.items.add("tea")
        raise ZeroDivisionError

    if is_command:
        assert isinstance(app.test_cli_runner().invoke(args=["add"]).exception, ZeroDivisionError)
    else:
        with app.app_context(), pytest.raises(ZeroDivisionError), flask_polydatum.context() as context:
            context.dal.items.add("tea")
            raise ZeroDivisionError
    assert shop.names == ["tea"]


def test_04_the_argument_wins_over_the_config(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.config["POLYDATUM_ROLLBACK_ON"] = only_exceptions
    FlaskPolydatum(shop.dm, rollback_on=nothing).init_app(app)

    @app.get("/")
    def view() -> Any:
        current_flask_request().dal.items.add("tea")
        raise NotFound("item 7")

    assert app.test_client().get("/").status_code == 404
    assert shop.names == ["tea"]


@pytest.mark.parametrize("way", ["argument", "config"])
def test_the_teardown_timeout_is_that_of_the_app(shop: Shop, caplog: pytest.LogCaptureFixture, way: str) -> None:
    def slow(context: Context) -> Iterator[str]:
        try:
            yield "opened"
        finally:
            threading.Event().wait(0.02)

    shop.dm.register_resources(slow=slow)
    for settings, warnings in (({}, 0), ({"teardown_timeout": 0.001}, 1)):
        app = installed(shop, way, **settings)
        app.add_url_rule("/", view_func=lambda: shop.dm.require_active_context().slow)
        caplog.clear()
        assert app.test_client().get("/").text == "opened"
        assert len([record for record in caplog.records if record.name.startswith("polydatum")]) == warnings


# --- on_commit_error --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["argument", "config"])
def test_01_what_on_commit_error_returns_is_what_the_client_gets(shop: Shop, way: str) -> None:
    failure = shop.fail("db commit", RuntimeError("serialization failure"))
    calls: list[Any] = []

    def busy(request: flask.Request, error: Exception) -> Any:
        calls.append((request.path, error, dict(flask.session)))
        with pytest.raises(ContextClosedError):
            current_flask_request().dal  # noqa: B018
        return {"detail": "try again"}, 503, {"Retry-After": "1"}

    app = installed(shop, way, on_commit_error=busy)

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-After"] = str(response.status_code)
        return response

    app.testing = True
    with logged_exceptions() as logged:
        answer = app.test_client().get("/add/200")
    assert (answer.status_code, answer.json) == (503, {"detail": "try again"})
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-After"] == "503"
    assert "X-Own" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    assert calls == [("/add/200", failure, {})]
    assert logged == [failure]
    assert shop.names == []


def test_01_on_commit_error_may_be_async_and_may_write_a_session(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("serialization failure"))

    async def busy(request: flask.Request, error: Exception) -> Any:
        flask.session["retry"] = True
        return flask.Response(iter(["try ", "again"]), 409)

    app = installed(shop, on_commit_error=busy)
    client = app.test_client()
    answer = client.get("/add/200")
    assert (answer.status_code, answer.text) == (409, "try again")
    with client.session_transaction() as session:
        assert dict(session) == {"retry": True}
    assert shop.is_left


def test_01_if_on_commit_error_returns_none_flask_handles_the_error(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    seen: list[Any] = []
    app = installed(shop, on_commit_error=lambda request, error: None)
    app.register_error_handler(500, lambda error: (seen.append(error.original_exception), ("sorry", 500))[1])
    assert app.test_client().get("/add/200").text == "sorry"
    assert seen == [failure]


@pytest.mark.parametrize("status", [200, 204, 302])
def test_01_on_commit_error_cannot_report_success(shop: Shop, status: int) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    app = installed(shop, on_commit_error=lambda request, error: ("fine", status))
    with logged_exceptions() as logged:
        answer = app.test_client().get("/add/200")
    assert answer.status_code == 500
    assert "fine" not in answer.text
    mistake, handled = logged
    assert isinstance(mistake, ConfigurationError)
    assert f"status {status}" in str(mistake)
    assert handled is failure


@pytest.mark.parametrize("mistake", [ZeroDivisionError("no"), None], ids=["raises", "returns no response"])
def test_01_if_on_commit_error_fails_the_original_error_stands(shop: Shop, mistake: Exception | None) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))

    def broken(request: flask.Request, error: Exception) -> Any:
        if mistake is not None:
            raise mistake
        return object()

    app = installed(shop, on_commit_error=broken)
    with logged_exceptions() as logged:
        assert app.test_client().get("/add/200").status_code == 500
    assert type(logged[0]) is (type(mistake) if mistake is not None else TypeError)
    assert logged[1:] == [failure]


def test_01_on_commit_error_is_not_asked_if_the_request_was_failing(shop: Shop) -> None:
    asked: list[Exception] = []
    app = installed(shop, on_commit_error=lambda request, error: asked.append(error))

    @shop.dm.context_middleware
    def replace(context: Context) -> Iterator[None]:
        try:
            yield
        except LookupError as error:
            raise ValueError("replaced") from error

    @app.get("/raises")
    def raises() -> str:
        raise KeyError("no")

    @app.get("/handled")
    def handled() -> str:
        raise IndexError("no")

    app.register_error_handler(IndexError, lambda error: ("handled", 400))
    for path, status in (("/raises", 500), ("/handled", 500)):
        with logged_exceptions() as logged:
            assert app.test_client().get(path).status_code == status
        assert [type(error) for error in logged] == [ValueError]
    assert asked == []


def test_01_on_commit_error_is_asked_before_a_service_error_is_answered(shop: Shop) -> None:
    shop.fail("db commit", NotFound("gone meanwhile"))
    app = installed(shop, on_commit_error=lambda request, error: (f"own {error}", 410))
    assert app.test_client().get("/add/200").text == "own gone meanwhile"
    other = installed(shop, on_commit_error=lambda request, error: None)
    answer = other.test_client().get("/add/200")
    assert (answer.status_code, answer.json) == (404, {"detail": "gone meanwhile"})


# --- Handlers that forget the status ----------------------------------------------------------------------------------


@pytest.mark.parametrize("handled", [500, Exception])
@pytest.mark.parametrize("status", [200, 302])
def test_01_a_handler_cannot_make_a_success_of_a_failed_commit(shop: Shop, handled: Any, status: int) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    app = installed(shop)
    app.register_error_handler(handled, lambda error: ("sorry", status))
    answer = app.test_client().get("/add/200")
    assert (answer.status_code, answer.text) == (500, "sorry")
    assert app.test_client().get("/nowhere").status_code == (404 if handled == 500 else status)


def test_01_61_nor_can_a_handler_of_a_service_error(shop: Shop) -> None:
    shop.fail("db commit", NotFound("gone meanwhile"))
    app = installed(shop)
    app.register_error_handler(NotFound, lambda error: "sorry")
    answer = app.test_client().get("/add/200")
    assert (answer.status_code, answer.text) == (500, "sorry")


def test_01_a_handler_that_forgets_the_status_commits_what_the_view_did(shop: Shop) -> None:
    """An exception of the view's is the application's to answer; with a 200 it says that all is well."""
    app = installed(shop)

    @app.get("/raises")
    def raises() -> str:
        current_flask_request().dal.items.add("tea")
        raise LookupError

    app.register_error_handler(LookupError, lambda error: "fine")
    assert app.test_client().get("/raises").text == "fine"
    assert shop.names == ["tea"]


# --- Mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, Any, str]] = [
    ("rollback_on", True, "expected a function or a dotted path to one, got an object of type bool"),
    ("rollback_on", "no_such_package.rule", "cannot import 'no_such_package.rule'"),
    ("rollback_on", "sys.path", "got an object of type list"),
    ("on_commit_error", "sys.no_such_function", "module 'sys' has no 'no_such_function'"),
    ("teardown_timeout", "5", "expected a number of seconds, got an object of type str"),
]


@pytest.mark.parametrize(("name", "value", "text"), MISTAKES)
@pytest.mark.parametrize("way", ["argument", "config"])
def test_20_a_wrong_setting_fails_in_init_app(shop: Shop, way: str, name: str, value: Any, text: str) -> None:
    app = flask.Flask("shop")
    arguments: dict[str, Any] = {}
    if way == "argument":
        arguments[name] = value
        place = f"FlaskPolydatum({name})"
    else:
        app.config[f"POLYDATUM_{name.upper()}"] = value
        place = f"app.config['POLYDATUM_{name.upper()}']"
    before = dict(vars(app))
    for install in (FlaskPolydatum(shop.dm, **arguments).init_app, lambda app: init_app(app, shop.dm, **arguments)):
        with pytest.raises(ConfigurationError) as raised:
            install(app)
        assert str(raised.value).startswith(f"{place}: ")
        assert text in str(raised.value)
    assert "polydatum" not in app.extensions
    assert vars(app) == before


@pytest.mark.parametrize("name", SETTINGS)
def test_45_init_app_again_with_other_settings_is_refused(shop: Shop, name: str) -> None:
    app = installed(shop, **SETTINGS)
    FlaskPolydatum(shop.dm, **SETTINGS).init_app(app)
    with pytest.raises(ConfigurationError, match="'shop' with other settings"):
        FlaskPolydatum(shop.dm, **{**SETTINGS, name: None}).init_app(app)


def test_the_settings_are_found_in_the_extensions_of_an_app(shop: Shop) -> None:
    configuration = installed(shop, **SETTINGS).extensions["polydatum"]
    assert configuration.data_manager is shop.dm
    assert vars(configuration.rules) == SETTINGS
