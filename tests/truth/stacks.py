"""The stacks, in the order of the table, each with the page that its setup follows.

With a library that ends a session in a generator, the generator commits after its ``yield``. With a library whose pages
let the view commit, or whose finalizers are not told of errors, the view commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Stack:
    """A library in a framework, set up in one way.

    Attributes:
        module: its module in ``apps/``.
        distribution: the distribution whose version is shown.
        way: the variant of the setup.
        framework: the distribution of the framework; a stack on Celery runs tasks.
        page: the page of the library's documentation that the setup follows.
        needs: further distributions.
    """

    module: str
    distribution: str
    way: str
    framework: str
    page: str
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its text in the first column, without versions."""
        where = "" if self.framework == self.distribution else f" in {TITLES[self.framework]}"
        return f"{TITLES.get(self.distribution, self.distribution)}{where}{self.way and f', {self.way}'}"

    @property
    def is_ours(self) -> bool:
        """Whether it is Polydatum."""
        return self.distribution == "polydatum"

    @property
    def is_tasks(self) -> bool:
        """Whether it runs tasks instead of answering requests."""
        return self.framework == "celery"

    @property
    def server(self) -> str:
        """The server that runs it."""
        return "uvicorn" if self.framework in ("fastapi", "starlette", "litestar") else "gunicorn"

    @property
    def missing(self) -> str | None:
        """The distributions that it needs and that are not installed."""
        wanted = (self.framework, *self.needs, *(() if self.is_ours else (self.distribution,)))
        return next((name for name in wanted if version_of(name) is None), None)


TITLES = {
    "advanced-alchemy": "Advanced Alchemy",
    "celery": "Celery",
    "dependency-injector": "Dependency Injector",
    "django": "Django",
    "fastapi": "FastAPI",
    "flask": "Flask",
    "flask-sqlalchemy": "Flask-SQLAlchemy",
    "litestar": "Litestar",
    "polydatum": "Polydatum",
    "pyramid": "Pyramid",
    "starlette": "Starlette",
}


def version_of(distribution: str) -> str | None:
    """The installed version; None if there is none. For Polydatum it is that of the source."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


STACKS = (
    Stack(
        "fastapi_depends",
        "fastapi",
        "`Depends`, commit after the `yield`",
        "fastapi",
        "fastapi docs/tutorial/dependencies/dependencies-with-yield",
    ),
    Stack(
        "fastapi_depends_function",
        "fastapi",
        '`Depends(scope="function")`',
        "fastapi",
        "fastapi docs/tutorial/dependencies/dependencies-with-yield, on early exit and `scope`",
    ),
    Stack("fastapi_by_hand", "fastapi", "commit in the endpoint", "fastapi", "fastapi docs/tutorial/sql-databases"),
    Stack("svcs_fastapi", "svcs", "", "fastapi", "svcs docs/integrations/fastapi"),
    Stack(
        "svcs_fastapi_errors",
        "svcs",
        "`suppress_context_exit=False`",
        "fastapi",
        "svcs docs/core-concepts, Registry.register_factory",
    ),
    Stack("dishka_fastapi", "dishka", "", "fastapi", "dishka docs/integrations/fastapi, docs/provider/provide"),
    Stack("wireup_fastapi", "wireup", "", "fastapi", "wireup docs/pages/integrations/fastapi, docs/pages/resources"),
    Stack(
        "wireup_fastapi_middleware",
        "wireup",
        "`middleware_mode=True`",
        "fastapi",
        "wireup docs/pages/integrations/fastapi/request_lifecycle_patterns, docs/pages/resources",
    ),
    Stack(
        "that_depends_fastapi",
        "that-depends",
        "",
        "fastapi",
        "that-depends docs/integrations/fastapi, on context resources",
    ),
    Stack("aioinject_fastapi", "aioinject", "", "fastapi", "aioinject docs/integrations/fastapi"),
    Stack(
        "modern_di_fastapi",
        "modern-di",
        "commit in the endpoint",
        "fastapi",
        "modern-di docs/integrations/fastapi, docs/providers/factories on finalizers",
        ("modern-di-fastapi",),
    ),
    Stack(
        "dependency_injector_fastapi",
        "dependency-injector",
        "`Closing`, `ContextLocalResource`",
        "fastapi",
        "python-dependency-injector docs/providers/resource",
    ),
    Stack(
        "advanced_alchemy_fastapi",
        "advanced-alchemy",
        '`commit_mode="autocommit"`',
        "fastapi",
        "advanced-alchemy docs/usage/frameworks/fastapi",
    ),
    Stack("polydatum_fastapi", "polydatum", "", "fastapi", "docs/howto/starlette-fastapi"),
    Stack("polydatum_starlette", "polydatum", "", "starlette", "docs/howto/starlette-fastapi"),
    Stack(
        "litestar_dependency",
        "litestar",
        "a generator dependency",
        "litestar",
        "litestar docs/usage/dependency-injection",
    ),
    Stack(
        "advanced_alchemy_litestar",
        "advanced-alchemy",
        '`before_send_handler="autocommit"`',
        "litestar",
        "advanced-alchemy docs/usage/frameworks/litestar",
    ),
    Stack("polydatum_litestar", "polydatum", "", "litestar", "docs/howto/starlette-fastapi"),
    Stack(
        "flask_by_hand",
        "flask-sqlalchemy",
        "commit in the view",
        "flask",
        "flask-sqlalchemy docs/quickstart",
        ("flask",),
    ),
    Stack(
        "flask_teardown",
        "flask",
        "commit in `teardown_appcontext`",
        "flask",
        "what SQLALCHEMY_COMMIT_ON_TEARDOWN of Flask-SQLAlchemy 2 did; 3 has dropped it, code has not",
    ),
    Stack("svcs_flask", "svcs", "", "flask", "svcs docs/integrations/flask"),
    Stack("dishka_flask", "dishka", "", "flask", "dishka docs/integrations/flask, docs/provider/provide"),
    Stack("wireup_flask", "wireup", "", "flask", "wireup docs/pages/integrations/flask, docs/pages/resources"),
    Stack(
        "modern_di_flask",
        "modern-di",
        "commit in the view",
        "flask",
        "modern-di docs/integrations/flask, docs/providers/factories on finalizers",
        ("modern-di-flask",),
    ),
    Stack(
        "advanced_alchemy_flask",
        "advanced-alchemy",
        '`commit_mode="autocommit"`',
        "flask",
        "advanced-alchemy docs/usage/frameworks/flask",
    ),
    Stack("polydatum_flask", "polydatum", "", "flask", "docs/howto/flask"),
    Stack(
        "pyramid_tm_plain",
        "pyramid-tm",
        "",
        "pyramid",
        "pyramid_tm docs; the starter of Pyramid, for zope.sqlalchemy",
        ("zope.sqlalchemy",),
    ),
    Stack(
        "pyramid_tm_veto",
        "pyramid-tm",
        "`default_commit_veto`",
        "pyramid",
        "pyramid_tm docs, on commit vetoes",
        ("zope.sqlalchemy",),
    ),
    Stack("polydatum_pyramid", "polydatum", "", "pyramid", "docs/howto/wsgi"),
    Stack("django_autocommit", "django", "autocommit, its default", "django", "django docs/topics/db/transactions"),
    Stack(
        "django_atomic",
        "django",
        "`ATOMIC_REQUESTS`",
        "django",
        "django docs/topics/db/transactions, on HTTP requests",
    ),
    Stack("wireup_django", "wireup", "", "django", "wireup docs/pages/integrations/django/setup, docs/pages/resources"),
    Stack("polydatum_django", "polydatum", "", "django", "docs/howto/django"),
    Stack(
        "celery_by_hand", "celery", "`with Session.begin()` in the task", "celery", "sqlalchemy docs/orm/session_basics"
    ),
    Stack("dishka_celery", "dishka", "", "celery", "dishka docs/integrations/celery, docs/provider/provide"),
    Stack("wireup_celery", "wireup", "", "celery", "wireup docs/pages/integrations/celery, docs/pages/resources"),
    Stack(
        "modern_di_celery",
        "modern-di",
        "commit in the task",
        "celery",
        "modern-di docs/integrations/celery, docs/providers/factories on finalizers",
        ("modern-di-celery",),
    ),
    Stack("polydatum_celery", "polydatum", "", "celery", "docs/howto/celery"),
)
"""Grouped by framework, with Polydatum last in each group."""
