"""What the program behind `make demo` says."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.examples.conduit.databases import database
from tests.examples.conduit.programs import ADDRESS, DEADLINE, ROOT, client_to, environment, running


def test_it_names_the_site_and_what_to_try(tmp_path: Path) -> None:
    """The lines for curl, in their order, are answered as it says."""
    url = f"sqlite:///{tmp_path}/conduit.db"
    with running(tmp_path, "conduit.serve", "--port", "0", database=url) as program:
        client = client_to(int(program.wait_for(rf"to read +{ADDRESS}")))
        assert url in program.printed
        program.wait_for("401")
        tried = []
        for line in re.findall(r"^ *(curl .*)", program.printed, re.MULTILINE):
            _, _, _, target, _, kind, _, body = shlex.split(line)
            answer = client("POST", urlsplit(target).path, dict([kind.split(": ")]), body.encode())
            tried.append((answer.status, answer.json.get("errors", {}).get("body")))
    assert tried == [
        (201, None),
        (422, ["username has already been taken"]),
        (401, ["email or password is invalid"]),
    ]


def test_it_hides_the_password_of_the_database(tmp_path: Path) -> None:
    with database("postgres", tmp_path) as url:
        secret = (
            urlsplit(url)._replace(netloc=f"postgres:wrong-or-not@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
        )
        with running(tmp_path, "conduit.serve", "--port", "0", database=secret) as program:
            program.wait_for("kept in +postgresql")
            assert "wrong-or-not" not in program.printed


@pytest.mark.parametrize(("host", "described"), [("fastapi", True), ("starlette", False)])
def test_it_says_who_is_there_and_where_the_api_is_described(tmp_path: Path, host: str, described: bool) -> None:
    words = ["conduit.serve", "--port", "0"]
    with running(tmp_path, *words, database=f"sqlite:///{tmp_path}/conduit.db", APP=host, SEED="1") as program:
        port = int(program.wait_for(ADDRESS))
        program.wait_for("401")
        assert "ann@example.org" in program.printed
        assert ("described at" in program.printed) is described
        assert (client_to(port)("GET", "/docs", {}, b"").status == 200) is described


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "conduit.serve", "--port", str(port)],
            cwd=ROOT,
            env=environment(f"sqlite:///{tmp_path}/conduit.db"),
            text=True,
            capture_output=True,
            timeout=DEADLINE,
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        f"Cannot listen on 127.0.0.1:{port}: Address already in use. Try another: make demo PORT=8001\n" in ended.stderr
    )
