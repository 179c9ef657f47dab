"""65: an app that never touches ``request.dal`` is the same with and without the adapter, whatever it uses of Flask."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from werkzeug.exceptions import Conflict

import flask_polydatum
from polydatum.testing.hosts import logged_exceptions
from polydatum.testing.shop import Shop

SIGNALS = (
    *("appcontext_pushed", "appcontext_popped", "appcontext_tearing_down", "before_render_template"),
    *("got_request_exception", "message_flashed", "request_finished", "request_started", "request_tearing_down"),
    "template_rendered",
)


class Site:
    """A Flask app that uses much of Flask, and tells what happened in which order."""

    def __init__(self, shop: Shop | None, *, testing: bool) -> None:
        self.events: list[str] = []
        self.app = app = flask.Flask("shop")
        app.secret_key = "for tests only"
        app.testing = testing
        self.listen()
        self.add_functions("first")
        if shop is not None:
            flask_polydatum.init_app(app, shop.dm)
        self.add_functions("second")
        self.add_views()

    def tell(self, event: str) -> None:
        self.events.append(event)

    def listen(self) -> None:
        self.receivers: list[Any] = []  # signals hold them weakly
        for name in SIGNALS:

            def receive(sender: Any, name: str = name, **facts: Any) -> None:
                error = facts.get("exception", facts.get("exc"))
                self.tell(f"signal {name} {type(error).__name__}")

            self.receivers.append(receive)
            getattr(flask, name).connect(receive, self.app)

    def add_functions(self, which: str) -> None:
        app = self.app

        @app.before_request
        def before() -> Any:
            self.tell(f"{which} before")
            if flask.request.args.get("before") == which:
                return "early", 202
            if flask.request.args.get("before") == f"{which} fails":
                raise ZeroDivisionError("before")
            return None

        @app.after_request
        def after(response: flask.Response) -> flask.Response:
            self.tell(f"{which} after {response.status_code}")
            response.headers.add("X-After", which)
            if flask.request.args.get("after") == f"{which} fails":
                raise ZeroDivisionError("after")
            return response

        @app.teardown_request
        def teardown(error: BaseException | None) -> None:
            self.tell(f"{which} teardown {type(error).__name__} {flask.request.path}")

        @app.teardown_appcontext
        def teardown_app(error: BaseException | None) -> None:
            self.tell(f"{which} app teardown {type(error).__name__}")

        @app.url_value_preprocessor
        def values(endpoint: str | None, arguments: dict[str, Any] | None) -> None:
            self.tell(f"{which} values {endpoint} {arguments}")

    def add_views(self) -> None:
        app = self.app
        for view in VIEWS:
            app.add_url_rule(f"/{view.__name__}", view_func=self.bound(view), methods=["GET", "POST"])
        app.register_error_handler(KeyError, lambda error: (f"no {error}", 422))
        app.register_error_handler(404, lambda error: (f"own page: {error.description}", 404))

    def bound(self, view: Callable[[Site], Any]) -> Any:
        def call() -> Any:
            return view(self)

        call.__name__ = view.__name__
        return call


def plain(site: Site) -> Any:
    return {"names": ["tea"]}, 201, {"X-Own": "1"}


def count(site: Site) -> Any:
    flask.session["count"] = flask.session.get("count", 0) + 1
    return str(flask.session["count"])


def flash(site: Site) -> Any:
    flask.flash("saved", "success")
    return flask.redirect("/flashed", 303)


def flashed(site: Site) -> Any:
    return flask.render_template_string("{{ get_flashed_messages(with_categories=true) }} {{ request.path }}")


def file(site: Site) -> Any:
    return flask.send_file(io.BytesIO(b"0123456789"), "text/plain", etag="seven", last_modified=0)


def real_file(site: Site) -> Any:
    return flask.send_file(__file__)


def stream(site: Site) -> Any:
    def body() -> Iterator[str]:
        site.tell("stream begins")
        try:
            yield flask.request.args.get("tag", "none")
            yield flask.session.get("count", "nothing")
        finally:
            site.tell("stream ends")

    return flask.stream_with_context(body()), {"Content-Type": "text/x-own"}


def bare_stream(site: Site) -> Any:
    def body() -> Iterator[bytes]:
        try:
            yield b"one "
            site.tell(f"in a request: {flask.has_request_context()}")
            yield b"two"
        finally:
            site.tell("stream ends")

    response = flask.Response(body())
    response.call_on_close(lambda: site.tell("response closed"))
    return response


def broken_stream(site: Site) -> Any:
    def body() -> Iterator[bytes]:
        yield b"one "
        raise ZeroDivisionError("stream")

    return flask.Response(body())


def after_this(site: Site) -> Any:
    @flask.after_this_request
    def after(response: flask.Response) -> flask.Response:
        site.tell("after this")
        response.set_cookie("seen", "1")
        return response

    return "after"


def in_thread(site: Site) -> Any:
    flask.g.own = "not copied"
    found: list[str] = []

    @flask.copy_current_request_context
    def work() -> None:
        found.append(f"{flask.request.path} {flask.g.get('own')} {flask.session.get('count')}")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found


def nested(site: Site) -> Any:
    with site.app.test_client() as client:
        inner = client.get("/plain").json
        assert flask.request.path == "/plain"
    return [inner, flask.request.path]


def globals_(site: Site) -> Any:
    flask.g.own = "mine"
    return flask.render_template_string("{{ g.own }} {{ config.TESTING }} {{ url_for('plain') }}")


def bad_key(site: Site) -> Any:
    return flask.request.form["missing"]


def upload(site: Site) -> Any:
    return {"data": flask.request.get_data(as_text=True), "json": flask.request.get_json(silent=True)}


def refused(site: Site) -> Any:
    flask.abort(403, "own words")


def conflict(site: Site) -> Any:
    raise Conflict(response=flask.Response("own response", 409))


def handled(site: Site) -> Any:
    raise KeyError("tea")


def broken(site: Site) -> Any:
    raise ZeroDivisionError("view")


def returns_nothing(site: Site) -> Any:
    return None


def leaves(site: Site) -> Any:
    raise SystemExit(3)


VIEWS = [
    *(plain, count, flash, flashed, file, real_file, stream, bare_stream, broken_stream, after_this, in_thread, nested),
    *(globals_, bad_key, upload, refused, conflict, handled, broken, returns_nothing, leaves),
]

Request = tuple[str, str, dict[str, Any]]
SCENARIOS: dict[str, list[Request]] = {
    **{view.__name__: [("GET", f"/{view.__name__}", {})] for view in VIEWS},
    **{f"{view.__name__} HEAD": [("HEAD", f"/{view.__name__}", {})] for view in VIEWS},
    "session": [("GET", "/count", {}), ("GET", "/count", {}), ("GET", "/stream?tag=a", {}), ("GET", "/in_thread", {})],
    "flash and redirect": [("GET", "/flash", {}), ("GET", "/flashed", {}), ("GET", "/flashed", {})],
    "followed redirect": [("GET", "/flash", {"follow_redirects": True})],
    "range": [("GET", "/file", {"headers": {"Range": "bytes=2-4"}})],
    "open range": [("GET", "/real_file", {"headers": {"Range": "bytes=-5"}})],
    "bad range": [("GET", "/file", {"headers": {"Range": "bytes=99-"}})],
    "if-range": [("GET", "/file", {"headers": {"Range": "bytes=2-4", "If-Range": '"other"'}})],
    "304 by etag": [("GET", "/file", {"headers": {"If-None-Match": '"seven"'}})],
    "304 by date": [("GET", "/file", {"headers": {"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}})],
    "form": [("POST", "/bad_key", {"data": {"size": "m"}})],
    "body": [("POST", "/upload", {"data": "raw"}), ("POST", "/upload", {"json": {"a": 1}})],
    "unknown": [("GET", "/nowhere", {})],
    "405": [("DELETE", "/plain", {}), ("OPTIONS", "/plain", {})],
    "early answer": [("GET", "/plain?before=first", {}), ("GET", "/plain?before=second", {})],
    "before fails": [("GET", "/plain?before=first fails", {}), ("GET", "/plain?before=second fails", {})],
    "after fails": [("GET", "/count?after=first fails", {}), ("GET", "/count?after=second fails", {})],
}


def visited(site: Site, requests: list[Request], *, preserved: bool) -> list[Any]:
    """All that can be seen from outside of a visit."""
    seen: list[Any] = []
    client = site.app.test_client()
    if preserved:
        client.__enter__()
    for method, path, options in requests:
        with logged_exceptions() as logged:
            try:
                response = client.open(path, method=method, **options)
                body = response.get_data()
                headers = [(name, comparable(name, value)) for name, value in response.headers]
                seen += [response.status, headers, body]
                if preserved:
                    seen.append((flask.request.path, dict(flask.session)))
                response.close()
            except BaseException as error:
                seen.append((type(error), str(error)))
        seen.append([type(error) for error in logged])
    if preserved:
        client.__exit__(None, None, None)
    return [*seen, site.events]


def comparable(name: str, value: str) -> str:
    """A header without the time of day, which is in signed sessions, too."""
    if name == "Set-Cookie" and value.startswith("session="):
        signed, semicolon, attributes = value.partition(";")
        return signed.partition(".")[0] + semicolon + attributes
    return "now" if name == "Date" else value


@pytest.mark.parametrize("preserved", [False, True], ids=["", "with-client"])
@pytest.mark.parametrize("testing", [False, True], ids=["live", "testing"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_65_flask_is_what_it_was(shop: Shop, name: str, testing: bool, preserved: bool) -> None:
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        bare, ours = (visited(Site(one, testing=testing), SCENARIOS[name], preserved=preserved) for one in (None, shop))
    assert ours == bare
    assert any("teardown" in event for event in bare[-1])
    assert shop.log == []
    assert shop.is_left


def test_65_a_client_that_leaves_ends_a_stream_as_ever(shop: Shop) -> None:
    def left(site: Site) -> list[str]:
        for path in ("/stream?tag=a", "/bare_stream"):
            response = site.app.test_client().open(path)
            assert next(iter(response.response)) in (b"a", b"one ")
            response.close()
        return site.events

    bare, ours = (left(Site(one, testing=False)) for one in (None, shop))
    assert ours == bare
    assert ours.count("stream ends") == 2
    assert ours.count("response closed") == 1


@pytest.mark.parametrize("fails", [False, True])
def test_42_65_the_functions_of_a_blueprint_keep_their_order(shop: Shop, fails: bool) -> None:
    def visited_blueprint(one: Shop | None) -> list[str]:
        site = Site(one, testing=False)
        blueprint = flask.Blueprint("blue", __name__)
        blueprint.before_request(lambda: site.tell("blue before"))
        blueprint.after_request(lambda response: (site.tell("blue after"), response)[1])
        blueprint.teardown_request(lambda error: site.tell("blue teardown"))
        blueprint.register_error_handler(LookupError, lambda error: ("blue", 418))
        blueprint.add_url_rule("/blue", view_func=lambda: [][0] if fails else "blue")
        site.app.register_blueprint(blueprint)
        assert site.app.test_client().get("/blue").status_code == (418 if fails else 200)
        return site.events

    bare, ours = visited_blueprint(None), visited_blueprint(shop)
    assert ours == bare
    assert [event for event in ours if event.startswith("blue")] == ["blue before", "blue after", "blue teardown"]
