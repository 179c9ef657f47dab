"""``polydatum`` on the command line: inspect a DataManager, run its commands, send what is in its outbox."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import re
import sys
import textwrap
import tomllib
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polydatum.adapting import find_manager, tree
from polydatum.commands import RegisteredCommand
from polydatum.errors import ConfigurationError, MissingClientError, PolydatumError

try:
    import click
except ImportError as error:
    raise MissingClientError("The command line of polydatum", "click", "cli") from error

_PYPROJECT = Path("pyproject.toml")
_HELP = ["-h", "--help"]
_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


class _OneLine(click.Group):
    """A group whose commands end with a one-line message and exit code 1 if Polydatum raises an error."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PolydatumError as error:
            raise click.ClickException(str(error)) from error


class _CannotLoad(click.ClickException):
    exit_code = 2


@click.group(cls=_OneLine, context_settings={"help_option_names": _HELP})
@click.option("--manager", metavar="MODULE:NAME", help="The DataManager, as in shop.data:dm.")
@click.version_option(package_name="polydatum")
@click.pass_context
def polydatum(context: click.Context, manager: str | None) -> None:
    """Inspect a DataManager, run its commands, send what is in its outbox.

    The DataManager is set by --manager, by the variable POLYDATUM_MANAGER, or by [tool.polydatum] manager =
    "shop.data:dm" in the pyproject.toml of the current folder. Modules in this folder can be imported.
    """
    context.obj = manager


def _load(context: click.Context) -> Any:
    """The DataManager; the command ends with exit code 2 if there is none."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    given, variable = context.obj, os.environ.get("POLYDATUM_MANAGER") or None
    places = (
        ("--manager", given),
        ("POLYDATUM_MANAGER", variable),
        ("[tool.polydatum] manager in pyproject.toml", None if given or variable else _read_pyproject()),
    )
    try:
        return find_manager(*places)
    except ConfigurationError as error:
        raise _CannotLoad(str(error)) from error
    except Exception:
        traceback.print_exc()
        raise SystemExit(_CannotLoad.exit_code) from None


def _read_pyproject() -> Any:
    if not _PYPROJECT.is_file():
        return None
    try:
        return tomllib.loads(_PYPROJECT.read_text("utf-8")).get("tool", {}).get("polydatum", {}).get("manager")
    except ValueError as error:
        raise _CannotLoad(f"pyproject.toml: {error}") from error


def _run_async(manager: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run async work in an event loop of its own, in which the manager is then closed."""

    async def run() -> Any:
        try:
            return await work()
        finally:
            await manager.aclose()

    return asyncio.run(run())


# --- Inspection -------------------------------------------------------------------------------------------------------


@polydatum.command("tree")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_context
def print_tree(context: click.Context, as_json: bool) -> None:
    """Show services with their methods, resources and middleware."""
    description = _load(context).describe()
    for line in [json.dumps(description)] if as_json else tree(description):
        click.echo(line)


@polydatum.command("check")
@click.pass_context
def print_problems(context: click.Context) -> None:
    """Report problems, without opening anything; the exit code is 1 if there are any.

    It is 2 if the DataManager cannot be loaded.
    """
    problems = _load(context).check()
    for problem in problems:
        click.echo(problem)
    if problems:
        raise SystemExit(1)
    click.echo("no problems found")


# --- Commands ---------------------------------------------------------------------------------------------------------


@polydatum.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("path")
@click.argument("arguments", nargs=-1)
@click.pass_context
def run_command(context: click.Context, path: str, arguments: Sequence[str]) -> None:
    """Run a command in this process, in a context that commits, and print its result as JSON.

    Each argument is JSON, or else text: 5, true, '{"draft": true}', hello. NAME=VALUE is a keyword argument; for text
    that looks like one, write JSON: '"a=b"'. On a terminal a bar shows the progress, if the command reports it with a
    total.

    PATH --help shows what the command takes, and runs nothing.
    """
    manager = _load(context)
    if not {*_HELP}.isdisjoint(arguments):
        _show_command(context, manager._commands().find(path))
        return
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in arguments:
        named = _NAMED.fullmatch(argument)
        if named is None:
            args.append(_value(argument))
        else:
            kwargs[named[1]] = _value(named[2])
    command = manager.command(path, *args, **kwargs)
    bar = _Bar(path) if sys.stderr.isatty() else None
    try:
        if command.is_async:
            result = _run_async(manager, lambda: command.arun(progress=bar))
        else:
            result = command.run(progress=bar)
    finally:
        if bar is not None:
            bar.end()
    click.echo(_as_json(result))


def _show_command(context: click.Context, command: RegisteredCommand) -> None:
    click.echo(f"Usage: {context.command_path} {command.path} [ARGUMENTS]...\n")
    click.echo(f"  {command.path}{command.signature}\n")
    doc = inspect.getdoc(command.method)
    if doc:
        click.echo(textwrap.indent(doc, "  ") + "\n")
    click.echo("Each argument is JSON, or else text; NAME=VALUE is a keyword argument.")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_json(result: Any) -> str:
    """A result that is not JSON becomes text: the command has committed by now, and has not failed."""
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return json.dumps(str(result), ensure_ascii=False)


class _Bar:
    """A progress bar on standard error, shown from the command's first report on."""

    _STEPS = 1000

    def __init__(self, label: str) -> None:
        self._label = label
        self._shown: Any = None

    def __call__(self, done: float, total: float | None) -> None:
        if not total:
            return
        position = int(self._STEPS * min(max(done / total, 0), 1))
        if self._shown is not None and position < self._shown.pos:
            self.end()  # the command is being retried
        if self._shown is None:
            self._shown = click.progressbar(length=self._STEPS, label=self._label, file=sys.stderr)
            self._shown.__enter__()
        self._shown.update(position - self._shown.pos)

    def end(self) -> None:
        if self._shown is not None:
            self._shown.__exit__(None, None, None)
            self._shown = None


# --- The outbox -------------------------------------------------------------------------------------------------------


@polydatum.group("outbox")
def outbox_group() -> None:
    """Send or list what is in the outbox."""


@outbox_group.command("run")
@click.option("--once", is_flag=True, help="Try all that is due now once; exit code 1 if something could not be sent.")
@click.option("--batch", type=click.IntRange(min=1), default=100, show_default=True, help="Messages in a transaction.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between two checks, if nothing was sent.",
)
@click.pass_context
def run_relay(context: click.Context, once: bool, batch: int, interval: float) -> None:
    """Send commands that were enqueued reliably, until SIGTERM or Ctrl-C.

    Any number of relays may run at once.
    """
    manager = _load(context)
    from polydatum.backends.outbox_relay import Relay

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    relay = Relay(manager, batch=batch, interval=interval)
    if not once:
        relay.run()
        return
    sent, failed = relay.run_once()
    click.echo(f"{sent} sent, {failed} failed")
    if failed:
        raise SystemExit(1)


@outbox_group.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.pass_context
def print_entries(context: click.Context, limit: int) -> None:
    """List the commands that wait to be sent, the oldest first, without their arguments."""
    manager = _load(context)
    from polydatum.backends.outbox import outbox_of

    outbox = outbox_of(manager)
    if outbox.is_async(manager):
        entries = _run_async(manager, lambda: outbox.aentries(manager, limit + 1))
    else:
        entries = outbox.entries(manager, limit + 1)
    lines = [("ID", "COMMAND", "WRITTEN", "ATTEMPTS", "DUE", "ERROR")]
    for entry in entries[:limit]:
        times = [
            datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") for moment in (entry.written, entry.due)
        ]
        lines.append((entry.id, entry.path, times[0], str(entry.attempts), times[1], entry.error or "-"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if len(entries) > limit:
        click.echo("... and more")


@outbox_group.command("create-tables")
@click.pass_context
def create_tables(context: click.Context) -> None:
    """Create the tables of the outbox and the inbox, unless they exist."""
    manager = _load(context)
    from polydatum.backends.outbox import Inbox, outbox_of

    outbox, inbox = outbox_of(manager), manager.dispatch.inbox
    for one in [outbox, inbox] if isinstance(inbox, Inbox) else [outbox]:
        if one.is_async(manager):
            _run_async(manager, lambda one=one: _acreate_table(manager, one))  # type: ignore[misc]
        else:
            one.create_table(manager.get_client(one.resource))
        click.echo(one.table.fullname)


async def _acreate_table(manager: Any, one: Any) -> None:
    engine = await manager.get_client(one.resource)
    async with engine.begin() as connection:
        await connection.run_sync(one.create_table)
