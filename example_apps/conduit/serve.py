"""Serve Conduit in one of its hosts: ``python -m conduit.serve --app flask --port 8001``.

Missing options are taken from the environment: ``APP``, ``PORT``, ``DATABASE_URL``, ``SEED``. For servers that call an
application factory there is `make_app`: ``APP=starlette uvicorn --factory conduit.serve:make_app``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
from typing import Any

from conduit.seed import PASSWORD, seed
from conduit.services.layer import ConduitManager, create_tables, data_manager_from_environment
from shop.serve import HOST, asgi_server, listening, port_number, wsgi_server

SERVERS = {"starlette": asgi_server, "fastapi": asgi_server, "flask": wsgi_server, "django": wsgi_server}


JSON = "-H 'Content-Type: application/json'"
NEW_USER = """-d '{"user": {"username": "%s", "email": "%s", "password": "secret"}}'"""
LOGIN = """-d '{"user": {"email": "%s", "password": "secret"}}'"""
GREETING = f"""\
Conduit is open, served by {{app}}. Ctrl-C closes it.

  to read     {{url}}
  the API     {{api}}
  kept in     {{kept_in}}
  people      {{who}}

Try in another terminal, in this order:

  # A new user. Answer: 201 (422 if you have done this before).
  {{curl}} {JSON} {{new}}

  # Somebody else who wants the same name. Answer: 422, it is taken.
  {{curl}} {JSON} {{taken}}

  # Nothing of that was kept: nobody has this address. Answer: 401.
  {{curl}}/login {JSON} {{login}}
"""


def make_app(name: str | None = None, dm: ConduitManager | None = None) -> Any:
    """The ASGI or WSGI application of a host; with ``CELERY_BROKER_URL``, its commands are sent to workers."""
    dm = dm or data_manager_from_environment()
    broker = os.environ.get("CELERY_BROKER_URL")
    if broker:
        from conduit.hosts import celery

        celery.make_app(dm, broker)
    return importlib.import_module(f"conduit.hosts.{name or os.environ['APP']}").make_app(dm)


def main() -> None:
    """Serve until Ctrl-C."""
    given = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt), listening(given.port, "make demo") as listener:
        dm = data_manager_from_environment()
        create_tables(dm)
        if given.seed:
            seed(dm)
        server = SERVERS[given.app](make_app(given.app, dm), listener)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.stop())
        kept_in = dm.get_client("db").url.render_as_string(hide_password=True)
        print_greeting(given.app, f"http://{HOST}:{listener.getsockname()[1]}", kept_in, is_seeded=given.seed)
        server.run()
        dm.close()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line, with defaults from the environment."""
    environ = os.environ
    parser = argparse.ArgumentParser(prog="python -m conduit.serve", description="Serve Conduit.")
    parser.add_argument("--app", choices=SERVERS, default=environ.get("APP") or "starlette", help="the host")
    parser.add_argument(
        "--port", type=port_number, default=environ.get("PORT") or "8000", help="0 for any that is free"
    )
    parser.add_argument(
        "--seed", action="store_true", default=environ.get("SEED", "") not in ("", "0"), help="fill an empty database"
    )
    return parser.parse_args()


def print_greeting(app: str, url: str, kept_in: str, *, is_seeded: bool) -> None:
    """Print the address, and what to try."""
    who = f"ann, bob, chioma and dmitri; as ann@example.org one logs in with the password {PASSWORD}"
    print(
        GREETING.format(
            app=app,
            url=url,
            api=f"{url}/api, described at {url}/docs" if app == "fastapi" else f"{url}/api",
            kept_in=kept_in,
            who=who if is_seeded else "whoever registers; SEED=1 fills an empty database",
            curl=f"curl -iw '\\n' {url}/api/users",
            new=NEW_USER % ("eve", "eve@example.org"),
            taken=NEW_USER % ("eve", "mallory@example.org"),
            login=LOGIN % "mallory@example.org",
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
