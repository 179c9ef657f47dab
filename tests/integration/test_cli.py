"""The program ``polydatum``, over SQLite, in this process and in one of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner, Result

from polydatum import CommandQueue, DataManager, ValueResource
from polydatum.__main__ import main
from polydatum.backends.outbox import Inbox, Outbox
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from polydatum.cli import polydatum
from tests.backends import outbox_app
from tests.backends.outbox_app import AppDAL, Journal, read

ROOT = Path(__file__).parents[2]
APP = "tests.backends.outbox_app:dm"


@pytest.fixture
def dm(monkeypatch: pytest.MonkeyPatch) -> DataManager[AppDAL, Any]:
    """A manager where the program looks for it."""
    dm = DataManager(AppDAL)
    monkeypatch.setattr(outbox_app, "dm", dm)
    monkeypatch.setenv("POLYDATUM_MANAGER", APP)
    return dm


def run(*arguments: str) -> Result:
    return CliRunner().invoke(polydatum, arguments)


def ended(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    result = run(*arguments)
    return result.exit_code, result.stdout, result.stderr


# --- Which manager ----------------------------------------------------------------------------------------------------


def test_the_manager_is_named_by_an_option_or_a_variable(
    dm: DataManager[AppDAL, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended("check") == (0, "no problems found\n", "")
    monkeypatch.delenv("POLYDATUM_MANAGER")
    assert ended("--manager", APP, "check") == (0, "no problems found\n", "")


def test_or_by_the_project_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dm: DataManager[AppDAL, Any]
) -> None:
    """The option wins, then the variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pyproject.toml").write_text('[tool.polydatum]\nmanager = "cli_shop.data:dm"\n')
    (tmp_path / "cli_shop").mkdir()
    (tmp_path / "cli_shop" / "data.py").write_text(
        "from polydatum import *\ndm = DataManager()\ndm.register_resources(own=ValueResource(1))\n"
    )
    assert "own" not in ended("tree")[1]
    monkeypatch.delenv("POLYDATUM_MANAGER")
    assert "  own  (context, value)" in ended("tree")[1]
    assert "own" not in ended("--manager", APP, "tree")[1]
    for name in ("cli_shop", "cli_shop.data"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("pyproject", "said"),
    [
        (None, "no DataManager found; set one of these: --manager, POLYDATUM_MANAGER, [tool.polydatum] manager in"),
        ("[project]", "no DataManager found"),
        ('[tool.polydatum]\nmanager = "nowhere"', "'nowhere' is not a dotted path"),
        ('[tool.polydatum]\nmanager = "nowhere.at:all"', "cannot import 'nowhere.at:all'"),
        ("[tool.polydatum]\nmanager = 7", "got an object of type int"),
        ("[tool", "pyproject.toml: "),
    ],
)
def test_what_cannot_be_loaded_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyproject: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("POLYDATUM_MANAGER", raising=False)
    if pyproject is not None:
        (tmp_path / "pyproject.toml").write_text(pyproject)
    code, output, errors = ended("check")
    assert (code, output) == (2, "")
    assert errors.startswith("Error: ")
    assert said in errors
    assert errors.count("\n") == 1


def test_an_error_in_the_users_module_shows_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cli_broken.py").write_text("1 / 0\n")
    code, _, errors = ended("--manager", "cli_broken:dm", "check")
    assert code == 2
    assert "cli_broken.py" in errors
    assert errors.endswith("ZeroDivisionError: division by zero\n")


# --- What it is -------------------------------------------------------------------------------------------------------


def test_tree_shows_services_and_resources(dm: DataManager[AppDAL, Any]) -> None:
    dm.register_resources(
        rate=ValueResource(1),
        sql=SQLAlchemyBackend("sqlite://"),
        asql=AsyncSQLAlchemyBackend("sqlite+aiosqlite://"),
        job=Journal,
    )
    code, output, _ = ended("tree")
    lines = output.splitlines()
    assert (code, lines[:2]) == (0, ["services", "  mails  (Mails)"])
    assert any(line.startswith("    @command send(to: ") for line in lines)
    assert "  rate  (context, value)" in lines
    assert "  sql  (context, SQLAlchemyBackend)" in lines
    assert "  asql  (context, async, AsyncSQLAlchemyBackend)" in lines
    assert "  job  (context, Journal)" in lines
    described = json.loads(ended("tree", "--json")[1])
    assert described == dm.describe()


def test_check_exits_with_1_if_there_are_problems(dm: DataManager[AppDAL, Any]) -> None:
    def careless(context: Any) -> Iterator[str]:
        yield "opened"
        print("never if the request fails")

    dm.register_resources(careless=careless)
    code, output, _ = ended("check")
    assert code == 1
    assert output.startswith("unguarded-teardown resource 'careless': ")


# --- Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["mails.send", "bob"], '"sent to bob"'),
        (["mails.send", "to=bob"], '"sent to bob"'),
        (["mails.send", '"a=b"'], '"sent to a=b"'),
        (["mails.send", "to=a=b"], '"sent to a=b"'),
        (["mails.send", "Zoë says {"], '"sent to Zoë says {"'),
        (["mails.send", '["a", 1]'], "\"sent to ['a', 1]\""),
        (["mails.send", '"--help"'], '"sent to --help"'),
        (["mails.send", "--helpful"], '"sent to --helpful"'),
        (["mails.send", "-5"], '"sent to -5"'),
        (["mails.count", "3"], '{"counted": 3, "slowly": false}'),
        (["mails.count", "slowly=true", "to=2"], '{"counted": 2, "slowly": true}'),
        (["mails.asend", "bob"], '"sent to bob, asynchronously"'),
    ],
)
def test_run_runs_a_command_with_json_or_text(dm: DataManager[AppDAL, Any], arguments: list[str], result: str) -> None:
    assert ended("run", *arguments) == (0, f"{result}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["3", "slowly=true", "--help"]])
def test_help_of_a_command_says_what_it_takes_and_runs_nothing(
    dm: DataManager[AppDAL, Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("polydatum.commands.Command.call", None)
    code, output, errors = ended("run", "mails.count", *arguments)
    assert (code, errors) == (0, "")
    assert output.startswith("Usage: polydatum run mails.count [ARGUMENTS]...\n")
    assert "mails.count(to: 'int', *, slowly: 'bool' = False)" in output
    assert "Count to a number." in output


def test_help_of_a_command_without_a_docstring_or_of_none(dm: DataManager[AppDAL, Any]) -> None:
    assert "mails.send(to: 'str') -> 'str'\n\nEach argument" in ended("run", "mails.send", "--help")[1]
    assert ended("run", "mails.sen", "--help")[::2] == (
        1,
        "Error: no command 'mails.sen': did you mean 'mails.send'?\n",
    )


def test_it_commits(dm: DataManager[AppDAL, Any]) -> None:
    outcomes = []

    def watch(context: Any) -> Iterator[None]:
        context.on_commit(lambda: outcomes.append("committed"))
        context.on_rollback(lambda: outcomes.append("rolled back"))
        yield

    dm.register_context_middleware(watch)
    run("run", "mails.send", "bob")
    run("run", "mails.asend", "bob")
    run("run", "mails.fail", "plainly")
    assert outcomes == ["committed", "committed", "rolled back"]


@pytest.mark.parametrize(
    ("result", "shown"), [({1, 2}, '"{1, 2}"'), ({(1, 2): 3}, '"{(1, 2): 3}"'), (None, "null"), ([1j], '["1j"]')]
)
def test_a_result_that_is_no_json_is_shown_as_text(
    dm: DataManager[AppDAL, Any], monkeypatch: pytest.MonkeyPatch, result: Any, shown: str
) -> None:
    """The command has committed; it did not fail."""
    monkeypatch.setattr("polydatum.commands.Command.call", lambda self: result)
    assert ended("run", "mails.send", "bob") == (0, f"{shown}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mails.sen", "bob"], "Error: no command 'mails.sen': did you mean 'mails.send'?\n"),
        (["mails.send"], "Error: command 'mails.send': its arguments have to fit (to: 'str') -> 'str'\n"),
        (["mails"], "Error: invalid command path: "),
        (["mails.fail", "ours"], "Error: no such mailbox\n"),
    ],
)
def test_an_error_of_ours_is_one_line_and_exit_code_1(
    dm: DataManager[AppDAL, Any], arguments: list[str], said: str
) -> None:
    code, output, errors = ended("run", *arguments)
    assert (code, output) == (1, "")
    assert errors.startswith(said)
    assert errors.count("\n") == 1


def test_another_one_is_raised(dm: DataManager[AppDAL, Any]) -> None:
    result = run("run", "mails.fail", "plainly")
    assert result.exit_code == 1
    assert isinstance(result.exception, ValueError)


# --- The outbox -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def office(
    request: pytest.FixtureRequest, dm: DataManager[AppDAL, Any], tmp_path: Path
) -> Iterator[DataManager[AppDAL, Any]]:
    """With an outbox in a file, and a queue that is one; another manager writes into it."""
    path = tmp_path / "shop.db"
    dm.register_resources(
        db=AsyncSQLAlchemyBackend(f"sqlite+aiosqlite:///{path}")
        if request.param
        else SQLAlchemyBackend(f"sqlite:///{path}")
    )
    dm.register_command_queue(
        Journal(str(tmp_path / "journal"), None), outbox=Outbox("db"), inbox=Inbox("db", table="known")
    )
    writer = DataManager(AppDAL)
    writer.register_resources(db=SQLAlchemyBackend(f"sqlite:///{path}"))
    writer.register_command_queue(CommandQueue(), outbox=Outbox("db"))
    yield writer
    dm.close()
    writer.close()


def enqueue(writer: DataManager[AppDAL, Any], *recipients: str, **options: Any) -> list[str]:
    with writer.context() as ctx:
        return [ctx.enqueue(writer.command("mails.send", to), reliable=True, **options) for to in recipients]


def test_the_outbox_from_its_table_to_the_queue(office: DataManager[AppDAL, Any], tmp_path: Path) -> None:
    for _ in range(2):
        assert ended("outbox", "create-tables") == (0, "polydatum_outbox\nknown\n", "")
    assert ended("outbox", "list") == (0, "ID  COMMAND  WRITTEN  ATTEMPTS  DUE  ERROR\n", "")
    kept = enqueue(office, "bob", "eve", "joe", countdown=5)
    code, output, _ = ended("outbox", "list", "--limit", "2")
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["ID", *kept[:2], "..."]
    assert lines[1][1] == "mails.send"
    assert lines[1][2] == lines[1][4]
    assert lines[1][3::2] == ["0", "-"]
    assert ended("outbox", "run", "--once", "--batch", "2") == (0, "3 sent, 0 failed\n", "")
    assert [(message["id"], options) for _, message, options in read(tmp_path / "journal")] == [
        (message_id, {"countdown": 5}) for message_id in kept
    ]


def test_once_exits_with_1_if_something_could_not_be_sent(office: DataManager[AppDAL, Any]) -> None:
    run("outbox", "create-tables")
    enqueue(office, "bob", "eve")
    with office.context() as ctx:
        ctx.db.connection().exec_driver_sql("UPDATE polydatum_outbox SET message = '{' WHERE number = 1")
    code, output, _ = ended("outbox", "run", "--once")
    assert (code, output) == (1, "1 sent, 1 failed\n")
    assert ended("outbox", "list")[1].split()[-3::2] == ["1", "JSONDecodeError"]


@pytest.mark.parametrize("command", ["run", "list", "create-tables"])
def test_without_an_outbox_there_is_nothing_to_do(dm: DataManager[AppDAL, Any], command: str) -> None:
    assert ended("outbox", command) == (
        1,
        "",
        "Error: no queue for commands; register one with dm.register_command_queue(...)\n",
    )
    dm.register_command_queue(CommandQueue())
    code, _, errors = ended("outbox", command)
    assert code == 1
    assert errors.startswith("Error: no Outbox of polydatum.backends: ")


@pytest.mark.parametrize("options", [["--batch", "0"], ["--interval", "0"]])
def test_numbers_out_of_range_are_refused(dm: DataManager[AppDAL, Any], options: list[str]) -> None:
    assert run("outbox", "run", *options).exit_code == 2


def test_it_runs_until_a_signal_ends_it(
    office: DataManager[AppDAL, Any], dm: DataManager[AppDAL, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("outbox", "create-tables")
    enqueue(office, "bob")
    sent = []

    def send(message: dict[str, Any]) -> None:
        sent.append(message["args"])
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(dm.dispatch.queue, "send", send)
    assert ended("outbox", "run", "--interval", "600") == (0, "", "")
    assert sent == [["bob"]]


# --- On a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The end that shows what is written to the other one."""
    outer, inner = pty.openpty()
    yield outer, inner
    os.close(outer)


def shown_on(outer: int) -> str:
    shown = b""
    try:
        while some := os.read(outer, 1000):
            shown += some
    except OSError:
        pass  # Linux: the other end is closed
    return shown.decode()


def test_a_bar_shows_how_far_it_is(
    dm: DataManager[AppDAL, Any],
    terminal: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second attempt has a bar of its own; the end of one is the end of its line."""

    def call(self: Any) -> str:
        context = dm.require_active_context()
        for done, total in [(1, None), (0, 4), (1, 4), (4, 4), (0.5, 2), (3, 2)]:
            context.progress(done, total)
        return "done"

    monkeypatch.setattr("polydatum.commands.Command.call", call)
    with os.fdopen(terminal[1], "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit):
            polydatum(["run", "mails.send", "bob"])
    lines = shown_on(terminal[0]).split("\n")
    bars = [re.findall(r"\d+%", line) for line in lines]
    assert bars[:2] == [["0%", "25%", "100%"]] * 2
    assert lines[0].count("mails.send") == 3
    assert capsys.readouterr().out == '"done"\n'


def test_a_command_that_does_not_say_how_far_it_is_has_none(
    dm: DataManager[AppDAL, Any], terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with os.fdopen(terminal[1], "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit):
            polydatum(["run", "mails.count", "4", "slowly=true"])
    assert shown_on(terminal[0]) == ""


# --- In a process of its own ------------------------------------------------------------------------------------------


def program(*arguments: str, cwd: Path = ROOT, **options: Any) -> subprocess.Popen[bytes]:
    environment = options.pop("environment", {})
    return subprocess.Popen(
        [sys.executable, "-m", "polydatum", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("src", "integrations", ".")),
            "POLYDATUM_MANAGER": APP,
            **environment,
        },
        **options,
    )


def test_a_bar_is_on_standard_error_and_the_result_on_standard_output(terminal: tuple[int, int]) -> None:
    process = program("run", "mails.count", "4", stdout=subprocess.PIPE, stderr=terminal[1])
    os.close(terminal[1])
    shown = shown_on(terminal[0])
    assert process.communicate(timeout=60)[0] == b'{"counted": 4, "slowly": false}\n'
    assert [f"{percent}%" in shown for percent in (25, 50, 75, 100)] == [True] * 4


def test_a_relay_ends_by_sigterm(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    environment = {
        "OUTBOX_URL": f"sqlite:///{tmp_path / 'shop.db'}",
        "OUTBOX_TABLE": "shop",
        "OUTBOX_JOURNAL": str(journal),
    }
    assert program("outbox", "create-tables", environment=environment).wait(60) == 0
    writer = DataManager(AppDAL)
    writer.register_resources(db=SQLAlchemyBackend(environment["OUTBOX_URL"]))
    writer.register_command_queue(CommandQueue(), outbox=Outbox("db", table="shop_outbox"))
    kept = enqueue(writer, "bob")
    process = program("outbox", "run", "--interval", "600", environment=environment, stderr=subprocess.PIPE)
    deadline = monotonic() + 60
    while not read(journal) and monotonic() < deadline:
        pass
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert [message["id"] for _, message, _ in read(journal)] == kept
    with writer.context() as ctx:
        assert ctx.db.connection().exec_driver_sql("SELECT count(*) FROM shop_outbox").scalar() == 0
    writer.close()


def test_the_program_is_also_a_module(dm: DataManager[AppDAL, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["somewhere/__main__.py", "check"])
    monkeypatch.delitem(sys.modules, "polydatum.__main__", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("polydatum", run_name="__main__")
    assert ended.value.code == 0


def test_without_click_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "polydatum.cli")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == "The command line of polydatum needs the package click: pip install 'polydatum[cli]'"
