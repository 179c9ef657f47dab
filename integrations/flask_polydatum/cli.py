"""The ``flask`` command line: commands with a context, the shell, and ``flask polydatum``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click
import flask
from flask.cli import AppGroup, with_appcontext

from flask_polydatum.current import current_configuration, current_manager
from polydatum import ConfigurationError, DataManager
from polydatum.adapting import tree

P = ParamSpec("P")
T = TypeVar("T")


def install_cli(app: flask.Flask, manager: DataManager[Any, Any]) -> None:
    """Add the commands ``flask polydatum ...``, and ``dm`` and ``dal`` to the shell; the app's own names win."""
    app.shell_context_processors.insert(0, lambda: {"dm": manager, "dal": manager.get_dal()})
    if COMMANDS.name not in app.cli.commands:
        app.cli.add_command(COMMANDS)


def with_context(command: Callable[P, T]) -> Callable[P, T]:
    """Decorator: run a command in a Context of the app's DataManager, which ends before the command does.

    The app's ``rollback_on`` and ``teardown_timeout`` apply. `flask_polydatum.dal`, `FlaskPolydatum.dal` and
    ``dm.get_active_context()`` work in it. An app context is pushed if there is none. What happens to the command:

    * **Returns**, or ends with exit code 0 (``sys.exit()``, ``ctx.exit()``): commits. If that fails, the command raises
      the error, and its exit code is 1.
    * **Any other exit code** (``sys.exit(1)``, ``ctx.exit(3)``, ``ctx.abort()``): rolls back, and keeps the exit code.
    * **Any other exception**: rolls back and raises it again, even if a context middleware suppressed it.

    Raises:
        ConfigurationError: if used above the decorator that makes the command, or on an ``async def``.

    Example::

        @app.cli.command()
        @click.argument("name")
        @with_context
        def add_item(name):
            dal.items.add(name)
    """
    if isinstance(command, click.Command):
        raise ConfigurationError(
            f"@with_context must be placed below the decorator that makes the command {command.name!r}, next to its function"
        )
    if inspect.iscoroutinefunction(command):
        raise ConfigurationError(
            f"@with_context: {command.__qualname__} is an 'async def', which click does not await; make it a plain function"
        )

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        context = current_configuration("@flask_polydatum.with_context").new_context().open()
        try:
            result = command(*args, **kwargs)
        except BaseException as error:
            context.close(None if _is_success(error) else error)
            raise
        context.close()
        return result

    return with_appcontext(run)


def _is_success(error: BaseException) -> bool:
    """Whether an exception only ends a successful command."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code == 0
    return isinstance(error, SystemExit) and error.code in (None, 0)


COMMANDS = AppGroup("polydatum", help="Look at the services and resources of the app.")


@COMMANDS.command("tree")
def print_tree() -> None:
    """Show services with their methods, resources and middleware."""
    for line in tree(current_manager("flask polydatum tree").describe()):
        click.echo(line)


@COMMANDS.command("check")
def print_problems() -> None:
    """Report problems, without opening anything; the exit code is 1 if there are any."""
    problems = current_manager("flask polydatum check").check()
    for problem in problems:
        click.echo(problem)
    if problems:
        raise SystemExit(1)
    click.echo("no problems found")
