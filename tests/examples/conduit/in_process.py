"""The four hosts in this process, each behind the test client of its framework."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import django.test
from argon2 import PasswordHasher
from django.core.handlers.wsgi import WSGIHandler
from starlette.testclient import TestClient

from conduit.hosts import django as django_host
from conduit.hosts import fastapi as fastapi_host
from conduit.hosts import flask as flask_host
from conduit.hosts import starlette as starlette_host
from conduit.services.layer import ConduitManager, create_tables, make_data_manager
from conduit.services.tokens import Tokens
from tests.contract.django_settings import configure
from tests.examples.conduit.visitors import Answer, Client

HOSTS = ["starlette", "fastapi", "flask", "django"]
SECRET = "a secret of 32 bytes for the tests"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # it takes 50 ms as it should be


def manager_at(url: str) -> ConduitManager:
    """A Conduit with empty tables."""
    dm = make_data_manager(url, Tokens(SECRET), QUICK)
    create_tables(dm)
    return dm


def asgi_client(client: TestClient) -> Client:
    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        answer = client.request(method, target, headers=headers, content=body)
        return Answer(answer.status_code, answer.headers, answer.content)

    return send


def flask_client(app: Any) -> Client:
    client = app.test_client()

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        answer = client.open(target, method=method, headers=headers, data=body)
        return Answer(answer.status_code, {key.lower(): value for key, value in answer.headers}, answer.data)

    return send


def django_client() -> Client:
    client = django.test.Client(raise_request_exception=False)

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        answer = client.generic(method, target, body, "application/json", headers=headers)
        headers = {key.lower(): value for key, value in answer.headers.items()}
        return Answer(answer.status_code, headers, answer.content)

    return send


@contextlib.contextmanager
def app_of(host: str, dm: ConduitManager) -> Iterator[Any]:
    """The ASGI or WSGI application of a host."""
    if host == "django":
        configure()  # once per process; that is why its `make_app` is left to the tests of servers
        with django.test.override_settings(**django_host.SETTINGS, POLYDATUM={"DATA_MANAGER": dm}):
            yield WSGIHandler()
    else:
        module: Any = {"starlette": starlette_host, "fastapi": fastapi_host, "flask": flask_host}[host]
        yield module.make_app(dm)


@contextlib.contextmanager
def client_of(host: str, dm: ConduitManager) -> Iterator[Client]:
    """The test client of a host."""
    with app_of(host, dm) as app:
        if host == "django":
            yield django_client()
        elif host == "flask":
            yield flask_client(app)
        else:
            with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
                yield asgi_client(client)
