"""Conduit's README keeps up with its code."""

from __future__ import annotations

from tests.examples.conduit.lines import CONDUIT, README, TABLE, table


def test_the_table_counts_the_lines_as_they_are() -> None:
    written = TABLE.search(README.read_text())
    assert written is not None
    assert written[0] == table(), "python -m tests.examples.conduit.lines writes it anew"


def test_every_host_has_less_than_150_lines() -> None:
    lines = {host.name: len(host.read_text().splitlines()) for host in (CONDUIT / "hosts").glob("*.py")}
    assert {name: count for name, count in lines.items() if count >= 150} == {}


def test_the_services_and_the_site_know_no_framework() -> None:
    for module in [*(CONDUIT / "services").glob("*.py"), CONDUIT / "pages" / "site.py", CONDUIT / "pages" / "words.py"]:
        for framework in ("starlette", "fastapi", "flask", "django", "celery", "conduit.hosts"):
            assert f"import {framework}" not in module.read_text(), module
            assert f"from {framework}" not in module.read_text(), module
