"""What the source of users' functions shows: signatures, first lines of docstrings, teardown that will not run.

Loaded by `DataManager.check` and `DataManager.describe` only: its imports cost more than the rest of polydatum.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from .callables import unwrapped


def first_line(thing: Any) -> str:
    """The first line of a docstring, or an empty string."""
    doc = inspect.getdoc(thing)
    return (doc or "").partition("\n")[0]


def signature(method: Any) -> str:
    """The signature as text."""
    try:
        return str(inspect.signature(method))
    except (TypeError, ValueError):
        return "(...)"


def runs_on_after_bare_yield(factory: Any) -> bool:
    """Whether a generator function has code after its yield that no ``try`` or ``with`` protects.

    False also if there is no source.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(unwrapped(factory))))
    except (OSError, TypeError, SyntaxError):
        return False
    function = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    return function is not None and _unguarded(function.body)


def _unguarded(body: list[ast.stmt]) -> bool:
    """Whether statements follow a yield of the same block; a ``try`` or ``with`` around the yield guards it."""
    for number, statement in enumerate(body):
        if isinstance(statement, ast.If | ast.For | ast.AsyncFor | ast.While):
            if _unguarded(statement.body) or _unguarded(statement.orelse):
                return True
            yields = _yields(statement, guarded=(ast.Try, ast.With, ast.AsyncWith))
        else:
            yields = isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign) and _yields(statement)
        if yields:
            return number + 1 < len(body)
    return False


def _yields(node: ast.AST, guarded: tuple[type[ast.AST], ...] = ()) -> bool:
    """Whether a piece of code contains a yield, outside of guarded blocks and nested functions."""
    return isinstance(node, ast.Yield) or any(
        _yields(child, guarded)
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, *guarded))
    )
