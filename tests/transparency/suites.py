"""The suites: tests that a framework ships in its source distribution."""

from __future__ import annotations

from dataclasses import dataclass

BARE = "bare"
INSTALLED = "installed"
INNERMOST = "innermost"
OUTERMOST = "outermost"


@dataclass(frozen=True)
class Suite:
    """The tests of one distribution.

    Attributes:
        name: the distribution's name; its version is pinned in requirements.txt.
        plugin: the module in ``inside/`` that installs the adapter.
        tests: files and folders for pytest, labels for Django's ``runtests.py``.
        positions: where the adapter is installed, one run each.
        options: further options for pytest.
        is_django: whether it is run by Django's ``runtests.py``.
    """

    name: str
    plugin: str
    tests: tuple[str, ...] = ("tests",)
    positions: tuple[str, ...] = (INSTALLED,)
    options: tuple[str, ...] = ()
    is_django: bool = False


# Of Django's folders of tests, those that send requests or are about answering them.
DJANGO_LABELS = (
    "admin_views",
    "asgi",
    "async",
    "auth_tests",
    "cache",
    "conditional_processing",
    "context_processors",
    "csrf_tests",
    "decorators",
    "file_uploads",
    "flatpages_tests",
    "generic_views",
    "handlers",
    "httpwrappers",
    "i18n.patterns",
    "logging_tests",
    "messages_tests",
    "middleware",
    "middleware_exceptions",
    "redirects_tests",
    "requests_tests",
    "responses",
    "servers",
    "sessions_tests",
    "signed_cookies_tests",
    "sitemaps_tests",
    "staticfiles_tests",
    "syndication_tests",
    "test_client",
    "test_client_regress",
    "test_utils",
    "urlpatterns",
    "urlpatterns_reverse",
    "view_tests",
    "wsgi",
)

NO_CONFIGURATION = ("-c", "/dev/null")
"""For sources without a configuration of pytest's, which would take ours, further up."""

SUITES = (
    Suite("starlette", "transparency_starlette", positions=(INNERMOST, OUTERMOST)),
    Suite(
        "fastapi",
        "transparency_starlette",
        positions=(INNERMOST, OUTERMOST),
        options=(
            "--ignore=tests/benchmarks",
            "--ignore=tests/memory_benchmarks",
            # Each test runs in a process of its own, without the adapter, and has 15 s for that: too few on a busy machine.
            "--ignore=tests/test_telemetry/test_environment_integrations.py",
            "--ignore=tests/test_telemetry/test_integrations.py",
            "--ignore=tests/test_telemetry/test_native_integrations.py",
        ),
    ),
    Suite("flask", "transparency_flask"),
    Suite("django", "transparency_django", tests=DJANGO_LABELS, positions=(INNERMOST, OUTERMOST), is_django=True),
    Suite("djangorestframework", "transparency_django", positions=(INNERMOST, OUTERMOST), options=("-p", "django")),
    Suite(
        "werkzeug",
        "transparency_werkzeug",
        # Waits for a change of a file that it does not see on every machine.
        options=("--deselect=tests/test_serving.py::test_reloader_sys_path",),
    ),
    Suite("falcon", "transparency_falcon"),
    Suite("pyramid", "transparency_pyramid"),
    Suite("bottle", "transparency_bottle", tests=("test",), options=NO_CONFIGURATION),
    Suite("webtest", "transparency_webtest"),
)
BY_NAME = {suite.name: suite for suite in SUITES}
