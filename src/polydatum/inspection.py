"""What a DataManager consists of, as plain data (`describe`), and its configuration problems (`problems`).

Nothing is opened or called here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .app_scope import AppResource
from .callables import is_coroutine_function, name_of
from .commands import is_command
from .errors import InvalidMiddlewareError, PolydatumError, UnknownResourceError
from .kinds import ASYNC_GENERATOR, GENERATOR
from .middleware import ContextMiddleware, MethodMiddleware, compose
from .resources import VALUE, RegisteredResource
from .services import Service, methods_below, nested_services, public_methods


class Problem(NamedTuple):
    """A configuration problem: a short code, what it is about, and what to do."""

    code: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.subject}: {self.message}"


def describe(
    dal: Any,
    resources: Iterable[RegisteredResource],
    context_middleware: Iterable[ContextMiddleware],
    method_middleware: Iterable[MethodMiddleware],
) -> dict[str, Any]:
    """Services with their methods, resources and middleware, as dicts, lists and text."""
    return {
        "services": {name: _service(service) for name, service in nested_services(dal)},
        "resources": {
            resource.name: {
                "kind": "value" if resource.kind is VALUE else type(resource.kind).__name__.removesuffix("Kind"),
                "scope": "app" if isinstance(resource, AppResource) else "context",
                "async": resource.kind.is_async,
                "factory": name_of(resource.registered),
            }
            for resource in resources
        },
        "context_middleware": [{"name": one.name, "async": one.kind.is_async} for one in context_middleware],
        "method_middleware": [{"name": one.name, "spelling": one.spelling} for one in method_middleware],
    }


def _service(service: Service[Any]) -> dict[str, Any]:
    from . import sources

    return {
        "class": type(service).__qualname__,
        "doc": sources.first_line(type(service)) if type(service).__doc__ else "",
        "methods": {
            name: {
                "signature": sources.signature(getattr(service, name)),
                "async": is_coroutine_function(getattr(service, name)),
                "command": is_command(function),
                "doc": sources.first_line(getattr(service, name)),
            }
            for name, function in public_methods(service).items()
        },
        "services": {name: _service(nested) for name, nested in nested_services(service)},
    }


def tree(description: Mapping[str, Any]) -> Iterator[str]:
    """The result of `describe` as the lines of a tree, for a terminal."""
    yield "services"
    yield from _branch(description["services"], "  ")
    for title in ("resources", "context_middleware", "method_middleware"):
        yield title.replace("_", " ")
        entries = description[title]
        named = entries.items() if title == "resources" else [(entry["name"], entry) for entry in entries]
        for name, entry in named:
            kind = entry.get("kind", entry.get("spelling"))
            if kind in ("Callable", "AsyncBackend"):  # of which the class or the function says more
                kind = entry["factory"]
            notes = [entry.get("scope"), "async" if entry.get("async") else None, kind]
            yield f"  {name}  ({', '.join(note for note in notes if note)})" if any(notes) else f"  {name}"


def _branch(services: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, service in services.items():
        yield f"{indent}{name}  ({service['class']})"
        for method, facts in service["methods"].items():
            doc = f"  # {facts['doc']}" if facts["doc"] else ""
            marks = ("@command " if facts["command"] else "") + ("async " if facts["async"] else "")
            yield f"{indent}  {marks}{method}{facts['signature']}{doc}"
        yield from _branch(service["services"], indent + "  ")


def problems(
    dal: Any,
    resources: Iterable[RegisteredResource],
    context_middleware: Iterable[ContextMiddleware],
    method_middleware: Iterable[MethodMiddleware],
    commit_order: Iterable[str],
) -> list[Problem]:
    """Everything that `DataManager.check` reports."""
    found: list[Problem] = []
    services = dict(nested_services(dal))
    resources = list(resources)
    known = {resource.name for resource in resources}
    for name in commit_order:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            found.append(
                Problem(
                    "unknown-resource", "commit_order", f"no resource {name!r} (registered: {listed}); correct the name"
                )
            )
    for resource in resources:
        if resource.name in services:
            found.append(
                Problem("name-clash", f"resource {resource.name!r}", "a service has the same name; rename one of them")
            )
        if resource.kind in (GENERATOR, ASYNC_GENERATOR):
            found += _unguarded(f"resource {resource.name!r}", resource.factory)
    for middleware in context_middleware:
        if middleware.kind in (GENERATOR, ASYNC_GENERATOR):
            found += _unguarded(f"context middleware {middleware.name!r}", middleware.factory)
    chain = tuple(method_middleware)
    if chain:
        for path, service, _ in methods_below(dal):
            try:
                compose(chain, getattr(service, path.rpartition(".")[2]), path, lambda: None)
            except InvalidMiddlewareError as error:
                found.append(Problem("mismatched-middleware", f"method {path!r}", str(error)))
    return found


def dispatch_problems(data_manager: Any, parts: Mapping[str, Any]) -> list[Problem]:
    """Problems that the outbox and the inbox, None if there is none, find in the resources that they use."""
    found: list[Problem] = []
    for name, part in parts.items():
        try:
            if part is not None:
                part.check(data_manager)
        except PolydatumError as error:
            code = "unknown-resource" if isinstance(error, UnknownResourceError) else "mismatched-resource"
            found.append(Problem(code, name, str(error)))
    return found


def _unguarded(subject: str, factory: Any) -> list[Problem]:
    """Code after a yield outside of ``try`` and ``with`` does not run when the request fails."""
    from . import sources

    if not sources.runs_on_after_bare_yield(factory):
        return []
    return [
        Problem(
            "unguarded-teardown",
            subject,
            "code after its yield does not run when a request fails: the exception is raised at the yield; "
            "put the yield into 'try: ... finally:' or a 'with' block",
        )
    ]
