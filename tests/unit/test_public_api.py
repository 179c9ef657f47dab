"""The public names: sorted, complete, documented, and cheap to import."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import polydatum

MODULES = sorted(module.name for module in pkgutil.walk_packages(polydatum.__path__, "polydatum."))


def test_all_is_sorted_and_importable() -> None:
    """Each name once, in order, and there."""
    assert polydatum.__all__ == sorted(set(polydatum.__all__))
    for name in polydatum.__all__:
        assert getattr(polydatum, name) is not None


def test_all_is_complete() -> None:
    """Everything public that the package holds, modules aside."""
    public = {
        name for name, thing in vars(polydatum).items() if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert public == set(polydatum.__all__)


def test_every_error_is_public() -> None:
    """A user can catch all that we raise; the names of 0.9.1 stay in their module."""
    raised = {
        name
        for name, thing in vars(polydatum.errors).items()  # type: ignore[attr-defined]
        if isinstance(thing, type) and issubclass(thing, polydatum.PolydatumError) and thing.__name__ == name
    }
    assert raised - set(polydatum.__all__) == {"ErrorsOnClose"}


@pytest.mark.parametrize("name", polydatum.__all__)
def test_names_know_where_they_are(name: str) -> None:
    """``__module__`` and ``__qualname__`` lead to the same object."""
    thing = getattr(polydatum, name)
    assert getattr(importlib.import_module(thing.__module__), thing.__qualname__) is thing
    assert not any(part.startswith("_") for part in thing.__module__.split("."))


def documented() -> list[tuple[str, Any]]:
    """Public classes and functions, and what they define in public."""
    found = []
    for name in polydatum.__all__:
        thing = getattr(polydatum, name)
        found.append((name, thing))
        if isinstance(thing, type):
            for member, value in vars(thing).items():
                value = value.fget if isinstance(value, property) else value
                if not member.startswith("_") and inspect.isfunction(value):
                    found.append((f"{name}.{member}", value))
    return found


@pytest.mark.parametrize(("name", "thing"), documented(), ids=[name for name, _ in documented()])
def test_docstrings(name: str, thing: Any) -> None:
    """Every public class, function and method says in a sentence what it is."""
    first = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    assert first
    assert vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    assert first.rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize(
    "name",
    [
        "Context",
        "DataAccessLayer",
        "DataManager",
        "Meta",
        "Outcome",
        "Service",
        "ServiceError",
        "ValueResource",
        "lazy",
    ],
)
def test_entry_points_have_an_example(name: str) -> None:
    """Where people start, the docstring has an example that runs."""
    assert ">>> " in (getattr(polydatum, name).__doc__ or "")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    """They do what they show."""
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert module.__doc__


def loaded_by(code: str) -> set[str]:
    """The modules that a program has loaded, and a bare interpreter has not."""
    program = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    path = [entry for entry in sys.path if entry]
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(result.stdout.split())


USED = (
    "import polydatum; dm = polydatum.DataManager(); dm.register_resources(x=polydatum.ValueResource(1)); "
    "ctx = dm.context(); ctx.__enter__(); ctx.x; ctx.__exit__(None, None, None)"
)


@pytest.mark.parametrize("code", ["import polydatum", USED], ids=["import", "use"])
def test_importing_loads_little(code: str) -> None:
    """No third-party module, no asyncio, and nothing dear of the standard library; using it sync neither."""
    loaded = {name.partition(".")[0] for name in loaded_by(code)}
    assert loaded - {"polydatum"} <= set(sys.stdlib_module_names)
    assert not loaded & {
        "asyncio",
        "inspect",
        "logging",
        "ast",
        "concurrent",
        "socket",
        "ssl",
        "typing_extensions",
    }
