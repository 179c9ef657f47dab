"""The tests that are known to end otherwise with the adapter, by suite, each with its reason.

One that does not differ any more has to be taken out: the command fails.
"""

from __future__ import annotations

from collections.abc import Mapping

CHECKPOINT = (
    "the cancel scope around the request is cancelled, and the application would reach no checkpoint before the end of "
    "its answer; our close raises the cancellation, so that the request ends cancelled instead of answered"
)
OUTRANKED = (
    "an exception leaves the application in a cancelled scope; our close raises the cancellation, which outranks it"
)
ESCAPED = (
    "the application answers from inside a cancel scope of its own that is cancelled; our close raises the cancellation "
    "there, and once more when that scope has ended, where nothing catches it"
)
EARLY = (
    "the application yields bytes before it calls start_response, which PEP 3333 forbids; Werkzeug's test client takes it, "
    "servers raise AssertionError, and so do we, who close the context before the first byte"
)

BACKENDS = ("asyncio", "trio")
PENDING = ("none", "async", "sync", "sync_yield_function", "sync_yield_request")
_CLEANUP = "tests/test_async_dependency_cleanup.py"
_LIMITS = "tests/test_request_body_limits.py"

KNOWN: Mapping[str, Mapping[str, str]] = {
    "fastapi": {
        **{
            f"{_CLEANUP}::test_pending_cancellation_without_async_yield_keeps_response_timing[{backend}-{kind}]": CHECKPOINT
            for backend in BACKENDS
            for kind in PENDING
        },
        **{
            f"{_CLEANUP}::test_cleanup_follows_the_overridden_dependency[{backend}-False]": CHECKPOINT
            for backend in BACKENDS
        },
        **{
            f"{_CLEANUP}::test_cleanup_error_preserves_context_and_remaining_cleanup[{backend}-{scope}]": OUTRANKED
            for backend in BACKENDS
            for scope in ("function", "request")
        },
        **{
            f"{_LIMITS}::test_shared_frontend_uses_each_inclusions_body_limit[{backend}]": ESCAPED
            for backend in BACKENDS
        },
    },
    "werkzeug": {
        f"tests/test_test.py::test_run_wsgi_apps[{iterable}-{buffered}]": EARLY
        for iterable in (False, True)
        for buffered in (False, True)
    },
}
