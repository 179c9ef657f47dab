"""Writes down how every test of a suite ended: a plugin of pytest, and a result of unittest for Django's own runner."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

GRAVITY = ("passed", "xfailed", "skipped", "failed", "error")
"""The outcomes of a test; the gravest of its phases and subtests counts."""

outcomes: dict[str, str] = {}
messages: dict[str, str] = {}


def record(test: str, outcome: str, message: str = "") -> None:
    """Note how a phase of a test ended."""
    before = outcomes.get(test, GRAVITY[0])
    outcomes[test] = max(before, outcome, key=GRAVITY.index)
    if message and test not in messages:
        messages[test] = message.strip().splitlines()[-1][:400]


def write() -> None:
    """Write everything to the file that the command waits for."""
    manager = sys.modules.get("transparency_manager")
    contexts = dict(manager.contexts) if manager is not None else {}
    with open(os.environ["TRANSPARENCY_RESULT"], "w") as file:
        json.dump({"outcomes": outcomes, "messages": messages, "contexts": contexts}, file)


def pytest_runtest_logreport(report: Any) -> None:
    """Called by pytest for the set-up, the call and the teardown of a test."""
    if hasattr(report, "wasxfail"):
        record(report.nodeid, "xfailed" if report.skipped else "failed")
    elif report.failed:
        record(report.nodeid, "failed" if report.when == "call" else "error", crash_of(report))
    else:
        record(report.nodeid, report.outcome)


def pytest_collectreport(report: Any) -> None:
    """Called by pytest for every module and class."""
    if report.failed:
        record(report.nodeid, "error", str(report.longrepr))


def pytest_sessionfinish() -> None:
    """Called by pytest at the end."""
    write()


def crash_of(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.splitlines()[0] if crash is not None and crash.message else str(report.longrepr)


class RecordingResult:
    """To be mixed into a class of unittest results."""

    def startTest(self, test: Any) -> None:
        record(test.id(), "passed")
        super().startTest(test)  # type: ignore[misc]

    def addSkip(self, test: Any, reason: str) -> None:
        record(test.id(), "skipped")
        super().addSkip(test, reason)  # type: ignore[misc]

    def addFailure(self, test: Any, err: Any) -> None:
        record(test.id(), "failed", repr(err[1]))
        super().addFailure(test, err)  # type: ignore[misc]

    def addError(self, test: Any, err: Any) -> None:
        record(test.id(), "error", repr(err[1]))
        super().addError(test, err)  # type: ignore[misc]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            record(test.id(), "failed", repr(err[1]))
        super().addSubTest(test, subtest, err)  # type: ignore[misc]

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        record(test.id(), "xfailed")
        super().addExpectedFailure(test, err)  # type: ignore[misc]

    def addUnexpectedSuccess(self, test: Any) -> None:
        record(test.id(), "failed", "unexpected success")
        super().addUnexpectedSuccess(test)  # type: ignore[misc]
