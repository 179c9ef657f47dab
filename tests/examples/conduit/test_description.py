"""What the hosts do is what the descriptions of the API say, whatever Schemathesis makes up from them.

Two descriptions: the given one, against all hosts, and the one that FastAPI makes of our own schemas.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.examples.conduit.in_process import HOSTS, app_of, client_of, manager_at
from tests.examples.conduit.scenario import masked
from tests.examples.conduit.visitors import Site

DESCRIPTION: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "openapi.yml").read_text())
OPERATIONS = [(method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods]
WITH_BODY = [(method, path) for method, path in OPERATIONS if "requestBody" in DESCRIPTION["paths"][path][method]]

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
NAMES_MAY_BE_TAKEN = "positive_data_acceptance"  # and more that a description cannot say

few = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def given_description() -> dict[str, Any]:
    """The given one, served below /api, with the answers that its README adds."""
    errors = {code: {"$ref": "#/components/responses/GenericError"} for code in ("401", "403", "404")}
    paths = {
        path: {
            method: {**operation, "responses": {**errors, **operation["responses"]}}
            for method, operation in methods.items()
        }
        for path, methods in DESCRIPTION["paths"].items()
    }
    return {**DESCRIPTION, "servers": [{"url": "/api"}], "paths": paths}


def provider_of(authorization: str) -> type:
    """What logs Schemathesis in, and lets it try what happens if it is not."""

    class Provider:
        def get(self, case: Any, context: Any) -> str:
            return authorization

        def set(self, case: Any, data: str, context: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": data}

    return Provider


class Described:
    """A description, and hosts that are said to do what it says."""

    def __init__(self, description: dict[str, Any], apps: list[Any], known: dict[str, Any]) -> None:
        self._schema = schemathesis.openapi.from_dict(description)
        self._schema.auth()(provider_of(known.pop("authorization")))
        self._apps = apps
        self._known = known

    def check(self, method: str, path: str, mode: GenerationMode, *, without: str = "") -> None:
        """Try an operation with what its description allows, or does not, half of the time on what is really there."""
        excluded = [CHECKS.get_one(without)] if without else []
        operation = self._schema[path][method]

        @settings(few, max_examples=5 if mode is POSITIVE else 3)
        @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
        def check_one(case: Any, known: bool) -> None:
            if known and case.path_parameters:
                case.path_parameters = {name: self._known[name] for name in case.path_parameters}
            answers = set()
            for app in self._apps:
                self._schema.app = operation.app = app
                answer = case.call()
                case.validate_response(answer, excluded_checks=excluded)
                answers.add((answer.status_code, masked(answer.content)))
            assert len(answers) == 1, answers

        check_one()


def settle(site: Site) -> dict[str, Any]:
    """Somebody to ask as, and things to ask for: the same at every site."""
    ann, bob = site.join("ann"), site.join("bob")
    slug = ann.publish()["slug"]
    comment_id = ann.comment(slug)["id"]
    known = {"username": bob.username, "slug": slug, "id": comment_id, "comment_id": comment_id}
    return {**known, "authorization": f"Token {ann.token}"}


@contextmanager
def served(folder: Path, *hosts: str, description: dict[str, Any] | None = None) -> Iterator[Described]:
    """Hosts, each with a database of its own, and their description: a given one, or that of the first."""
    with ExitStack() as stack:
        apps = []
        for host in hosts:
            dm = manager_at(f"sqlite:///{folder}/{host}.db")
            stack.callback(dm.close)
            apps.append(stack.enter_context(app_of(host, dm)))
            known = settle(Site(stack.enter_context(client_of(host, dm))))
        yield Described(description or apps[0].openapi(), apps, known)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    with served(tmp_path_factory.mktemp("given"), *HOSTS, description=given_description()) as described:
        yield described


@pytest.fixture(scope="module")
def fastapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    with served(tmp_path_factory.mktemp("own"), "fastapi") as described:
        yield described


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_requests_as_given_are_answered_as_given(hosts: Described, method: str, path: str) -> None:
    hosts.check(method, path, POSITIVE, without=NAMES_MAY_BE_TAKEN)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_other_requests_are_refused(hosts: Described, method: str, path: str) -> None:
    hosts.check(method, path, NEGATIVE)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_requests_as_fastapi_describes_them_are_answered_as_it_says(fastapi: Described, method: str, path: str) -> None:
    unsure = method != "get" and path in ("/users", "/user")
    fastapi.check(method, own(path), POSITIVE, without=NAMES_MAY_BE_TAKEN if unsure else "")


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_others_are_refused(fastapi: Described, method: str, path: str) -> None:
    fastapi.check(method, own(path), NEGATIVE)


def own(path: str) -> str:
    """How FastAPI names a path of the given description."""
    return "/api" + path.replace("{id}", "{comment_id}")


def test_fastapi_describes_the_operations_that_are_given(tmp_path: Path) -> None:
    dm = manager_at(f"sqlite:///{tmp_path}/conduit.db")
    with app_of("fastapi", dm) as app:
        paths = app.openapi()["paths"]
    dm.close()
    assert {(method, path) for path, methods in paths.items() for method in methods} == {
        (method, own(path)) for method, path in OPERATIONS
    }
