"""The files next to this one under mypy --strict and pyright, and what an editor completes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    ("checker", "arguments"),
    [("mypy", ["--strict"]), ("pyright", ["--pythonpath", sys.executable])],
    ids=["mypy", "pyright"],
)
def test_type_checkers(checker: str, arguments: list[str]) -> None:
    """Every assert_type holds, and every line that has to be an error is one."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; it is in the dependency group 'check'")
    result = subprocess.run(
        [sys.executable, "-m", checker, *arguments, *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stdout + result.stderr


COMPLETED = """
from polydatum import DataAccessLayer, DataManager, Service

class PhotoService(Service):
    def add_photo(self): ...

class ItemService(Service):
    photos = PhotoService()
    def get_item(self, id: int) -> str: ...

class ShopDAL(DataAccessLayer):
    items = ItemService()

dm = DataManager(ShopDAL)
with dm.dal() as dal:
    {typed}"""


@pytest.mark.parametrize(
    ("typed", "listed"),
    [
        ("dal.", {"items"}),
        ("dal.items.", {"get_item", "photos"}),
        ("dal.items.photos.", {"add_photo"}),
        ("dm.get_dal().items.", {"get_item"}),
        ("ShopDAL().items.", {"get_item"}),
    ],
)
def test_completion(typed: str, listed: set[str]) -> None:
    """jedi, which reads no stubs of ours and runs nothing, lists the services and their methods."""
    jedi = pytest.importorskip("jedi", reason="jedi is not installed; it is in the dependency group 'test'")
    code = COMPLETED.format(typed=typed)
    line = code.count("\n") + 1
    script = jedi.Script(code, project=jedi.Project(ROOT, added_sys_path=[str(ROOT / "src")]))
    completions = {completion.name for completion in script.complete(line, len(code.splitlines()[-1]))}
    assert listed <= completions


def through(call: Any) -> Any:
    return (yield)


def test_completion_of_live_objects() -> None:
    """As in IPython, which asks the objects themselves: with and without method middleware."""
    jedi = pytest.importorskip("jedi", reason="jedi is not installed; it is in the dependency group 'test'")
    namespace: dict[str, object] = {}
    exec(COMPLETED.format(typed="pass"), namespace)
    dm: Any = namespace["dm"]
    for middleware in ([], [through]):
        dm.register_method_middleware(*middleware)
        namespace["dal"] = dm.get_dal()
        completions = {one.name for one in jedi.Interpreter("dal.items.", [namespace]).complete()}
        assert {"get_item", "photos"} <= completions
