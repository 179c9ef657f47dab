"""``meta.user`` in Flask: Flask-Login's current user, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest

import flask_polydatum
from flask_polydatum import stream_context
from polydatum import Context, ContextError
from polydatum.testing.shop import Shop
from tests.contract.flask_hosts import current_flask_request

flask_login: Any = pytest.importorskip("flask_login")


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id


class Login:
    """An app with Flask-Login, whose users are the items of the shop; ``loaded`` tells who was looked up."""

    def __init__(self, shop: Shop, *, first: bool) -> None:
        self.loaded: list[str] = []
        self.app = app = flask.Flask("shop")
        app.secret_key = "for tests only"
        if first:
            flask_polydatum.init_app(app, shop.dm)
        manager = flask_login.LoginManager(app)
        manager.user_loader(self.load)
        manager.request_loader(self.load_by_key)
        if not first:
            flask_polydatum.init_app(app, shop.dm)

        @app.get("/login/<name>")
        def login(name: str) -> str:
            flask_login.login_user(User(name))
            return "in"

        @app.get("/me")
        def me() -> Any:
            meta = shop.here().meta
            assert meta.user is meta.user
            return [meta.user.get_id(), meta.user.is_authenticated]

        @app.get("/other")
        def other() -> str:
            shop.here()
            return "other"

    def load(self, id: str) -> User | None:
        self.loaded.append(id)
        return User(id) if id in current_flask_request().dal.items.names() else None

    def load_by_key(self, request: flask.Request) -> User | None:
        key = request.headers.get("X-Api-Key")
        return User("by key") if key == "secret" else None


@pytest.fixture(params=[True, False], ids=["polydatum-first", "login-first"])
def login(shop: Shop, request: pytest.FixtureRequest) -> Login:
    with shop.dm.dal() as dal:
        dal.items.add("ann")
    shop.log.clear()
    return Login(shop, first=request.param)


def test_14_the_user_is_loaded_when_it_is_read_and_once(login: Login, shop: Shop) -> None:
    """The loader uses the DAL: authentication is inside of the context."""
    client = login.app.test_client()
    assert client.get("/login/ann").text == "in"
    assert client.get("/other").text == "other"
    assert login.loaded == []
    assert shop.log == []
    assert client.get("/me").json == ["ann", True]
    assert login.loaded == ["ann"]
    assert shop.log.count("db open") == 1


def test_14_a_user_that_flask_login_has_loaded_is_the_one(login: Login, shop: Shop) -> None:
    @login.app.before_request
    def before() -> None:
        flask.g.user = flask_login.current_user._get_current_object()

    @login.app.get("/same")
    def same() -> str:
        return str(shop.here().meta.user is flask.g.user)

    client = login.app.test_client()
    client.get("/login/ann")
    assert client.get("/same").text == "True"
    assert login.loaded == ["ann"]


def test_14_a_user_that_was_known_before_the_dispatch_is_the_one(login: Login, shop: Shop) -> None:
    """Authentication outside of the context: the user is there when the request arrives."""
    with login.app.test_request_context("/me"):
        flask_login.login_user(User("outside"))
        assert login.app.full_dispatch_request().json == ["outside", True]
    assert login.loaded == []


def test_14_who_logs_in_during_the_request_is_the_user(login: Login, shop: Shop) -> None:
    @login.app.get("/login-and-look")
    def view() -> Any:
        flask_login.login_user(User("ann"))
        return shop.here().meta.user.get_id()

    assert login.app.test_client().get("/login-and-look").text == "ann"


def test_14_an_anonymous_and_an_unknown_user_are_flask_logins(login: Login) -> None:
    client = login.app.test_client()
    assert client.get("/me").json == [None, False]
    client.get("/login/bob")  # whom the loader does not find
    assert client.get("/me").json == [None, False]


def test_14_16_in_nested_requests_each_has_its_own_user(login: Login, shop: Shop) -> None:
    """Of two apps: Flask-Login keeps its user on ``flask.g``, which nested requests of one app share."""
    other = Login(shop, first=True).app

    @login.app.get("/outer")
    def outer() -> Any:
        meta = shop.here().meta
        with other.test_client() as client:
            inner = client.get("/me", headers={"X-Api-Key": "secret"}).json
            with pytest.raises(ContextError, match="not Flask's current one"):
                meta.user  # noqa: B018
        return [inner, meta.user.get_id()]

    client = login.app.test_client()
    client.get("/login/ann")
    assert client.get("/outer").json == [["by key", True], "ann"]


@pytest.mark.parametrize("with_context", [True, False])
def test_14_18_a_stream_has_the_user_or_says_how_to_have_it(login: Login, with_context: bool) -> None:
    """None would be a lie: what a service shows to nobody may be more than what it shows to this user."""

    @login.app.get("/stream")
    def stream() -> flask.Response:
        request: Any = current_flask_request()

        def body() -> Iterator[str]:
            with stream_context(request) as context:
                try:
                    yield str(context.meta.user.get_id())
                except ContextError as error:
                    yield str(error)

        return flask.Response(flask.stream_with_context(body()) if with_context else body())

    login.load = lambda id: User(id)  # type: ignore[method-assign]
    login.app.login_manager.user_loader(login.load)  # type: ignore[attr-defined]
    client = login.app.test_client()
    client.get("/login/ann")
    assert client.get("/stream").text.endswith("ann" if with_context else "flask.stream_with_context")


def test_14_the_user_stays_readable_when_the_request_is_over(login: Login, shop: Shop) -> None:
    client = login.app.test_client()
    client.get("/login/ann")
    client.get("/me")
    (context,) = shop.contexts
    assert context.meta.user.get_id() == "ann"


def test_14_without_flask_login_in_the_app_nobody_is_the_user(shop: Shop) -> None:
    app = flask.Flask("shop")
    flask_polydatum.init_app(app, shop.dm)
    app.add_url_rule("/", view_func=lambda: str(shop.here().meta.user))
    assert app.test_client().get("/").text == "None"


def test_14_the_user_of_a_context_of_ones_own_is_what_one_gave(login: Login) -> None:
    with login.app.app_context():
        with flask_polydatum.context() as ctx:
            assert ctx.meta.user is None
        with flask_polydatum.context({"user": "cron"}) as ctx:
            assert ctx.meta.user == "cron"


SPOOFED = [
    [(name, value)] * times
    for name in ("X-User", "X-Remote-User", "X-Forwarded-User", "Remote-User", "X-Auth-Request-User")
    for value in ("mallory", "root", "root\x00", "")
    for times in (1, 2)
]


@pytest.mark.parametrize("logged_in", [False, True])
def test_64_no_header_changes_the_user(login: Login, shop: Shop, logged_in: bool) -> None:
    client = login.app.test_client()
    if logged_in:
        client.get("/login/ann")
    bearer = ("Authorization", "Bearer mallory")
    seen = [client.get("/me", headers=[*headers, bearer]).json for headers in SPOOFED]
    assert seen == [["ann", True] if logged_in else [None, False]] * 40


def test_64_a_middleware_that_changes_the_user_changes_nothing_for_others(login: Login, shop: Shop) -> None:
    @shop.dm.context_middleware
    def override(context: Context) -> Iterator[None]:
        with pytest.raises(AttributeError):
            context.meta.user = User("root")
        yield

    client = login.app.test_client()
    client.get("/login/ann")
    assert client.get("/me").json == ["ann", True]
