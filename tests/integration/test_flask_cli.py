"""Outside of requests: commands, ``flask shell``, ``flask polydatum``, `context`; and the proxies ``dal``, everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import flask
import pytest
from flask.cli import FlaskGroup, ScriptInfo

import flask_polydatum
import polydatum as polydatum_package
from flask_polydatum import FlaskPolydatum, stream_context, with_context
from polydatum import (
    ConfigurationError,
    Context,
    ContextClosedError,
    DataAccessLayer,
    DataManager,
    NoActiveContextError,
    Service,
)
from polydatum.adapting import AdapterMissingError
from polydatum.testing import attach
from polydatum.testing.shop import Shop
from tests.contract.flask_hosts import current_flask_request


@pytest.fixture
def polydatum(shop: Shop) -> FlaskPolydatum[Any]:
    return FlaskPolydatum(shop.dm)


@pytest.fixture
def app(polydatum: FlaskPolydatum[Any]) -> flask.Flask:
    app = flask.Flask("shop")
    polydatum.init_app(app)
    return app


# --- Commands ---------------------------------------------------------------------------------------------------------


def run(app: flask.Flask, shop: Shop, *leaving: Any) -> Any:
    """Run a command that adds tea, and leaves as told."""

    @app.cli.command("add")
    @click.argument("name")
    @with_context
    def add(name: str) -> int:
        """Add an item."""
        shop.here().on_commit(lambda: click.echo("committed"))
        flask_polydatum.dal.items.add(name)
        for one in leaving:
            if isinstance(one, BaseException):
                raise one
            one()
        return 7

    return app.test_cli_runner().invoke(args=["add", "tea"])


def test_46_a_command_that_returns_commits(app: flask.Flask, shop: Shop) -> None:
    result = run(app, shop)
    assert (result.exit_code, result.output) == (0, "committed\n")
    assert shop.names == ["tea"]
    assert shop.outcomes == ["committed"]
    assert shop.is_left


@pytest.mark.parametrize("leaving", [SystemExit(0), SystemExit(), SystemExit(None), click.exceptions.Exit(0), sys.exit])
def test_46_a_command_that_ends_with_exit_code_0_commits(app: flask.Flask, shop: Shop, leaving: Any) -> None:
    result = run(app, shop, leaving)
    assert (result.exit_code, result.output) == (0, "committed\n")
    assert shop.names == ["tea"]


def test_46_so_does_one_that_calls_exit_of_click(app: flask.Flask, shop: Shop) -> None:
    result = run(app, shop, lambda: click.get_current_context().exit())
    assert result.exit_code == 0
    assert shop.names == ["tea"]


@pytest.mark.parametrize(
    ("leaving", "code"),
    [
        (SystemExit(1), 1),
        (SystemExit(3), 3),
        (SystemExit("no tea"), 1),
        (click.exceptions.Exit(4), 4),
        (click.Abort(), 1),
        (click.UsageError("no"), 2),
        (ZeroDivisionError("no"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_46_any_other_exit_rolls_back_and_keeps_its_code(
    app: flask.Flask, shop: Shop, leaving: BaseException, code: int
) -> None:
    result = run(app, shop, leaving)
    assert result.exit_code == code
    assert "committed" not in result.output
    assert shop.names == []
    assert f"db saw {type(leaving).__name__}" in shop.log
    assert shop.outcomes == ["rolled_back"]
    if isinstance(leaving, ZeroDivisionError):
        assert result.exception is leaving


@pytest.mark.parametrize("leaving", [(), (SystemExit(0),), (click.exceptions.Exit(0),)])
def test_01_46_a_command_whose_commit_fails_has_failed(app: flask.Flask, shop: Shop, leaving: Any) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    result = run(app, shop, *leaving)
    assert result.exit_code == 1
    assert result.exception is failure
    assert shop.names == []


def test_46_62_a_swallowed_exception_is_raised_again(app: flask.Flask, shop: Shop) -> None:
    @shop.dm.context_middleware
    def swallow(context: Context) -> Iterator[None]:
        try:
            yield
        except ValueError:
            shop.log.append("swallowed")

    error = ValueError("no")
    result = run(app, shop, error)
    assert (result.exit_code, result.exception) == (1, error)
    assert "swallowed" in shop.log
    assert shop.names == []


def test_46_a_plain_click_command_gets_the_app_of_its_group(app: flask.Flask, shop: Shop) -> None:
    @click.command()
    @with_context
    def names() -> None:
        click.echo(shop.here().dal.items.names())

    group = FlaskGroup(create_app=lambda: app)
    group.add_command(names)
    result = app.test_cli_runner().invoke(group, ["names"])
    assert result.output == "[]\n"
    assert shop.outcomes == ["committed"]


def test_46_commands_of_a_blueprint_and_nested_calls_have_contexts_of_their_own(app: flask.Flask, shop: Shop) -> None:
    blueprint = flask.Blueprint("shop", __name__)

    @app.get("/add")
    def add() -> str:
        flask_polydatum.dal.items.add("inner")
        return "added"

    @blueprint.cli.command("outer")
    @with_context
    def outer() -> None:
        context = shop.here()
        assert app.test_client().get("/add").text == "added"
        with flask_polydatum.context() as other:
            other.dal.items.add("other")
        assert shop.here() is context
        flask_polydatum.dal.items.add("outer")
        click.get_current_context().exit(1)

    app.register_blueprint(blueprint)
    assert app.test_cli_runner().invoke(args=["shop", "outer"]).exit_code == 1
    assert shop.names == ["inner", "other"]


def test_46_the_command_keeps_its_name_help_and_parameters(app: flask.Flask, shop: Shop) -> None:
    run(app, shop)
    result = app.test_cli_runner().invoke(args=["add", "--help"])
    assert "Add an item." in result.output
    assert "NAME" in result.output


def test_46_with_context_refuses_what_it_cannot_run() -> None:
    with pytest.raises(ConfigurationError, match="below the decorator that makes the command 'sweep'"):

        @with_context
        @click.command()
        def sweep() -> None: ...

    with pytest.raises(ConfigurationError, match="is an 'async def'"):

        @with_context
        async def later() -> None: ...


def test_46_a_command_of_an_app_without_polydatum_says_what_to_install() -> None:
    app = flask.Flask("bare")
    app.cli.command("go")(with_context(lambda: None))
    result = app.test_cli_runner().invoke(args=["go"])
    assert isinstance(result.exception, AdapterMissingError)
    assert str(result.exception) == (
        "no context for @flask_polydatum.with_context: flask_polydatum is not installed in the app 'bare'; "
        "call FlaskPolydatum(dm).init_app(app)"
    )


# --- flask shell, flask polydatum -------------------------------------------------------------------------------------


SHELL_APP = """
import flask, flask_polydatum
from polydatum import DataAccessLayer, DataManager, Service

class ItemService(Service):
    def names(self):
        return ["tea"]

class ShopDAL(DataAccessLayer):
    items = ItemService()

app = flask.Flask("shop")
flask_polydatum.init_app(app, DataManager(ShopDAL))
"""


def test_the_shell_has_dm_and_dal(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text(SHELL_APP)
    path = os.pathsep.join(str(Path(package.__file__).parents[1]) for package in (polydatum_package, flask_polydatum))
    shell = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop_app", "shell"],
        input="with dm.context(): print(dal.items.names())\n\n",
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert shell.returncode == 0, shell.stderr
    assert "['tea']" in shell.stdout


def test_the_shell_keeps_the_names_that_the_app_has_given(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.shell_context_processor(lambda: {"dm": "own"})
    flask_polydatum.init_app(app, shop.dm)
    app.shell_context_processor(lambda: {"dal": "own"})
    shell = app.make_shell_context()
    assert (shell["dm"], shell["dal"]) == ("own", "own")


def test_flask_polydatum_tree_shows_services_and_resources(app: flask.Flask) -> None:
    result = app.test_cli_runner().invoke(args=["polydatum", "tree"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:2] == ["services", "  items  (ItemService)"]
    assert any(line.startswith("    names() -> ") for line in lines)
    assert [line.split()[0] for line in lines[lines.index("resources") :]] == [
        "resources",
        "db",
        "cache",
        "context",
        "method",
    ]


def test_flask_polydatum_check_exits_with_1_if_there_are_problems(app: flask.Flask, shop: Shop) -> None:
    result = app.test_cli_runner().invoke(args=["polydatum", "check"])
    assert (result.exit_code, result.output) == (0, "no problems found\n")

    def careless(context: Context) -> Iterator[str]:
        yield "opened"
        shop.log.append("never if the request fails")

    shop.dm.register_resources(careless=careless)
    result = app.test_cli_runner().invoke(args=["polydatum", "check"])
    assert result.exit_code == 1
    assert result.output.startswith("unguarded-teardown resource 'careless': ")
    assert shop.log == []


def test_45_the_commands_are_those_of_the_current_app(app: flask.Flask) -> None:
    class Other(DataAccessLayer):
        """No services."""

    other = flask.Flask("other")
    flask_polydatum.init_app(other, DataManager(Other))
    group = FlaskGroup(create_app=lambda: other)
    for one, is_there in ((app, True), (other, False)):
        assert ("items" in one.test_cli_runner().invoke(args=["polydatum", "tree"]).output) is is_there
    result = other.test_cli_runner().invoke(group, ["polydatum", "tree"], obj=ScriptInfo(create_app=lambda: other))
    assert "items" not in result.output
    assert result.exit_code == 0


def test_a_command_of_the_apps_own_named_polydatum_stays(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.cli.command("polydatum")(lambda: click.echo("own"))
    flask_polydatum.init_app(app, shop.dm)
    assert app.test_cli_runner().invoke(args=["polydatum"]).output == "own\n"


# --- context() and attach() -------------------------------------------------------------------------------------------


def test_context_opens_one_of_the_current_app(app: flask.Flask, shop: Shop) -> None:
    with app.app_context(), flask_polydatum.context({"user": "ann"}) as ctx:
        assert ctx.data_manager is shop.dm
        assert ctx.meta.user == "ann"
        ctx.dal.items.add("tea")
    assert shop.names == ["tea"]


def test_context_needs_an_app() -> None:
    with pytest.raises(AdapterMissingError, match=r"flask_polydatum.context\(\): there is no current app here"):
        flask_polydatum.context()
    with flask.Flask("bare").app_context(), pytest.raises(AdapterMissingError, match="not installed in the app 'bare'"):
        flask_polydatum.context()


@pytest.mark.parametrize("is_proxy", [False, True])
def test_13_63_a_test_gives_a_request_of_its_own_a_context(app: flask.Flask, shop: Shop, is_proxy: bool) -> None:
    app.add_url_rule("/things/<int:id>", view_func=lambda id: current_flask_request().dal.items.add(str(id)) or "added")
    with app.test_request_context("/things/7?tag=a"):
        request = current_flask_request()
        with attach(flask.request if is_proxy else request, shop.dm) as ctx:
            assert request.dal is ctx.dal
            assert ctx.meta.request is request
            assert dict(ctx.meta.params) == {"tag": "a", "id": 7}
            assert app.dispatch_request() == "added"
        with pytest.raises(ContextClosedError):
            request.dal  # noqa: B018
    assert shop.names == ["7"]


# --- The proxies ------------------------------------------------------------------------------------------------------


def test_13_the_proxies_are_the_dal_of_the_request(
    app: flask.Flask, shop: Shop, polydatum: FlaskPolydatum[Any]
) -> None:
    dal = polydatum.dal  # as another module would import it

    @app.get("/")
    def view() -> str:
        for proxy in (dal, flask_polydatum.dal):
            assert proxy == current_flask_request().dal
            assert proxy.items is current_flask_request().dal.items
            assert isinstance(proxy, type(shop.dm.get_dal()))
        dal.items.add("tea")
        return str(flask_polydatum.dal["items.names"]())

    assert app.test_client().get("/").text == "['tea']"


def test_13_the_proxies_see_what_a_test_has_overridden(app: flask.Flask, shop: Shop) -> None:
    class Fake(Service):
        def names(self) -> list[str]:
            return ["fake"]

    app.add_url_rule("/", view_func=lambda: flask_polydatum.dal.items.names())
    with shop.dm.override(services={"items": Fake()}):
        assert app.test_client().get("/").json == ["fake"]
    assert app.test_client().get("/").json == []


def test_13_the_typed_proxy_needs_no_app_in_a_context_of_its_manager(
    shop: Shop, polydatum: FlaskPolydatum[Any]
) -> None:
    with shop.dm.context():
        polydatum.dal.items.add("tea")
    assert shop.names == ["tea"]


def test_13_outside_of_a_context_the_proxies_say_where_to_use_them(
    app: flask.Flask, polydatum: FlaskPolydatum[Any]
) -> None:
    proxies = {"FlaskPolydatum.dal": polydatum.dal, "flask_polydatum.dal": flask_polydatum.dal}
    with app.app_context():
        for name, proxy in proxies.items():
            with pytest.raises(NoActiveContextError) as raised:
                proxy.items  # noqa: B018
            assert str(raised.value) == (
                f"no context for {name}: use it while a request is handled, in a command with "
                "@flask_polydatum.with_context, or in 'with flask_polydatum.context():'; a thread that a view starts has no "
                "context, even with copy_current_request_context, run polydatum.bind(fn) in it"
            )
            assert "unbound" in repr(proxy)
    with pytest.raises(AdapterMissingError, match=r"flask_polydatum.dal: there is no current app here"):
        flask_polydatum.dal.items  # noqa: B018
    with pytest.raises(AdapterMissingError, match=r"FlaskPolydatum.dal: there is no current app here"):
        FlaskPolydatum().dal.items  # noqa: B018


def test_17_in_a_streamed_body_the_proxies_are_closed_but_in_its_own_context(
    app: flask.Flask, shop: Shop, polydatum: FlaskPolydatum[Any]
) -> None:
    @app.get("/")
    def view() -> flask.Response:
        request = current_flask_request()

        def body() -> Iterator[str]:
            with pytest.raises(ContextClosedError, match=r"flask_polydatum.stream_context\(request\)"):
                polydatum.dal.items  # noqa: B018
            with stream_context(request):
                yield str(polydatum.dal.items.names())

        return flask.Response(body())

    assert app.test_client().get("/").text == "[]"


def test_45_the_proxy_of_an_extension_for_many_apps_is_that_of_the_current_one(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    extension: Any = FlaskPolydatum()
    apps = []
    for one in (shop, Shop(tmp_path / "other")):
        app = flask.Flask("shop")
        app.config["POLYDATUM_DATA_MANAGER"] = one.dm
        extension.init_app(app)
        app.add_url_rule("/<name>", view_func=lambda name: extension.dal.items.add(name) or extension.dal.items.names())
        apps.append(app)
    assert apps[0].test_client().get("/tea").json == ["tea"]
    assert apps[1].test_client().get("/milk").json == ["milk"]
