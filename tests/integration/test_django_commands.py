"""`manage.py` of a real project: the system checks, `polydatum tree` and `check`, and commands of the project's own.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.test import override_settings

from django_polydatum import ContextCommand
from polydatum import ConfigurationError, Context, NoActiveContextError
from polydatum.testing.shop import Shop

ROOT = Path(__file__).parents[2]

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

SETTINGS = """
SECRET_KEY = "for tests only"
USE_TZ = True
INSTALLED_APPS = ["django_polydatum", "shop"]
MIDDLEWARE = ["django_polydatum.PolydatumMiddleware"]
POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}
"""

DATA = '''
import contextlib, sqlite3
from polydatum import DataAccessLayer, DataManager, Service

class ItemService(Service):
    def add(self, name: str) -> None:
        """Add an item."""
        self._ctx.db.execute("INSERT INTO items VALUES (?)", (name,))

class ShopDAL(DataAccessLayer):
    items = ItemService()

def db(context):
    with contextlib.closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS items (name TEXT UNIQUE)")
        yield connection

dm = DataManager(ShopDAL)
dm.register_resources(db=db)
'''

ADD_ITEM = """
from django.core.management.base import BaseCommand, CommandError
from django_polydatum import ContextCommand

class Command(ContextCommand, BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("--then")

    def handle(self, name, then, **options):
        self.dal.items.add(name)
        if then == "refuse":
            raise CommandError("sold out", returncode=3)
        if then == "fail commit":
            self.context.before_commit(lambda: 1 / 0)
        return f"added by {self.context.meta.command}"
"""


class Project:
    """A Django project in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        commands = folder / "shop" / "management" / "commands"
        commands.mkdir(parents=True)
        (folder / "manage.py").write_text(MANAGE)
        (folder / "settings.py").write_text(SETTINGS)
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "data.py").write_text(DATA)
        (commands / "add_item.py").write_text(ADD_ITEM)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(ROOT / "src"), str(ROOT / "integrations")]
        return subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def names(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "shop.db")) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM items")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- The checks, and the command of ours ----------------------------------------------------------------------------


def test_52_manage_py_check_finds_nothing_in_a_good_project(project: Project) -> None:
    done = project.manage("check", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "no issues" in done.stdout


AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
ATOMIC = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "ATOMIC_REQUESTS": True}


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ("POLYDATUM = {}; MIDDLEWARE = []", ["E001", "W003"]),
        ('POLYDATUM = {"DATA_MANAGER": "shop.data.db"}', ["E002"]),
        (
            f'POLYDATUM["ROLBACK_ON"] = POLYDATUM["TEARDOWN_TIMEOUT"] = -1; MIDDLEWARE.append("{AUTH}"); '
            f'DATABASES = {{"default": {ATOMIC}}}',
            ["E003", "E004", "W001", "W002"],
        ),
    ],
)
def test_20_52_manage_py_check_reports(project: Project, settings: str, codes: list[str]) -> None:
    with (project.folder / "settings.py").open("a") as file:
        file.write(settings)
    done = project.manage("check", "--fail-level", "WARNING")
    assert done.returncode == 1
    assert re.findall(r"\(polydatum\.(\w+)\)", done.stderr) == codes


def test_manage_py_polydatum_tree_shows_the_manager_and_opens_nothing(project: Project) -> None:
    done = project.manage("polydatum", "tree")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:4] == [
        "services",
        "  items  (ItemService)",
        "    add(name: str) -> None  # Add an item.",
        "resources",
    ]
    assert "  db  (context, Generator)" in done.stdout
    assert not (project.folder / "shop.db").exists()


def test_manage_py_polydatum_check_exits_1_if_it_finds_something(project: Project) -> None:
    done = project.manage("polydatum", "check")
    assert (done.returncode, done.stdout) == (0, "nothing found\n")
    with (project.folder / "shop" / "data.py").open("a") as file:
        file.write("\ndef items(context):\n    yield\n    print('never, if the request fails')\n")
        file.write("dm.register_resources(items=items)\n")
    done = project.manage("polydatum", "check")
    assert done.returncode == 1
    assert "name-clash resource 'items'" in done.stdout
    assert "unguarded-teardown resource 'items'" in done.stdout
    assert done.stderr == "CommandError: 2 found\n"


def test_manage_py_polydatum_needs_a_manager(project: Project) -> None:
    with (project.folder / "settings.py").open("a") as file:
        file.write("POLYDATUM = {}")
    done = project.manage("polydatum", "tree")
    assert done.returncode == 1
    assert "(polydatum.E001)" in done.stderr


def test_manage_py_polydatum_needs_to_know_what(project: Project) -> None:
    done = project.manage("polydatum")
    assert done.returncode == 2
    assert "tree" in done.stderr


# --- Commands of the project's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "code", "kept", "told"),
    [
        (None, 0, ["tea"], ""),
        ("refuse", 3, [], "CommandError: sold out"),
        ("fail commit", 1, [], "ZeroDivisionError: division by zero"),
    ],
)
def test_01_a_command_s_exit_status_tells_whether_it_committed(
    project: Project, then: str | None, code: int, kept: list[str], told: str
) -> None:
    done = project.manage("add_item", "tea", *([] if then is None else ["--then", then]))
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert project.names == kept
    if then is None:
        assert done.stdout == "added by add_item\n"


class Command(ContextCommand, BaseCommand):
    error: BaseException | None = None

    def handle(self, *args: Any, **options: Any) -> str:
        self.dal.items.add("tea")
        if self.error is not None:
            raise self.error
        return f"{self.context.meta.command} {self.context.state}"


@pytest.fixture
def configured(shop: Shop, django_settings: None) -> Iterator[Shop]:
    with override_settings(POLYDATUM={"DATA_MANAGER": shop.dm}):
        yield shop


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (SystemExit(), ["tea"]),
        (SystemExit(0), ["tea"]),
        (SystemExit(1), []),
        (SystemExit("no tea"), []),
        (KeyboardInterrupt(), []),
        (CommandError("sold out"), []),
        (ZeroDivisionError(), []),
    ],
    ids=repr,
)
def test_03_what_leaves_a_command_decides_and_is_raised_again(
    configured: Shop, error: BaseException, kept: list[str]
) -> None:
    command = Command()
    command.error = error
    with pytest.raises(type(error)) as raised:
        call_command(command)
    assert raised.value is error
    assert configured.names == kept
    assert configured.is_left


def test_06_a_command_may_veto(configured: Shop) -> None:
    class DryRun(Command):
        def handle(self, *args: Any, **options: Any) -> str:
            self.context.set_rollback_only("dry run")
            return super().handle()

    assert call_command(DryRun(), stdout=io.StringIO()) == "test_django_commands open"
    assert configured.names == []


def test_call_command_runs_it_in_a_context_of_its_own(configured: Shop) -> None:
    out = io.StringIO()
    with configured.dm.context() as outer:
        assert call_command(Command(), stdout=out) == "test_django_commands open"
        assert configured.dm.require_active_context() is outer
        assert "db" not in outer
    assert out.getvalue() == "test_django_commands open\n"
    assert configured.names == ["tea"]


def test_one_command_object_runs_more_than_once(configured: Shop) -> None:
    command = Command()
    call_command(command, stdout=io.StringIO())
    call_command(command, stdout=io.StringIO())
    assert configured.names == ["tea", "tea"]
    with pytest.raises(NoActiveContextError):
        command.dal.items.names()


def test_67_a_commit_that_fails_fails_the_command(configured: Shop) -> None:
    failure = configured.fail("db commit", RuntimeError("disk full"))
    with pytest.raises(RuntimeError) as raised:
        call_command(Command(), stdout=io.StringIO())
    assert raised.value is failure
    assert configured.names == []


def test_62_a_suppressed_error_of_a_command_is_raised_again(configured: Shop) -> None:
    @configured.dm.context_middleware
    def swallow(context: Context) -> Iterator[None]:
        try:
            yield
        except CommandError:
            configured.log.append("swallowed")

    command = Command()
    command.error = CommandError("sold out")
    with pytest.raises(CommandError) as raised:
        call_command(command)
    assert raised.value is command.error
    assert "swallowed" in configured.log
    assert configured.names == []


def test_04_the_rules_of_the_setting_hold_for_commands(shop: Shop, django_settings: None) -> None:
    def never(error: BaseException | None, status: int | None) -> bool:
        return False

    command = Command()
    command.error = CommandError("sold out")
    settings = {"DATA_MANAGER": shop.dm, "ROLLBACK_ON": never}
    with override_settings(POLYDATUM=settings), pytest.raises(CommandError):
        call_command(command)
    assert shop.names == ["tea"]


def test_a_command_without_a_manager_says_so(django_settings: None) -> None:
    with override_settings(POLYDATUM={}), pytest.raises(ConfigurationError, match="DATA_MANAGER"):
        call_command(Command())


def test_a_command_that_has_base_command_first_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="class .*Wrong: put ContextCommand before BaseCommand"):

        class Wrong(BaseCommand, ContextCommand):  # type: ignore[misc]
            pass


def test_a_mixin_of_ones_own_may_build_on_it() -> None:
    class Mixin(ContextCommand):
        pass

    class Right(Mixin, BaseCommand):
        pass

    assert Right.execute is ContextCommand.execute
