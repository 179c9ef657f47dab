"""Django needs settings before anything else of it works; tests override the ones they are about."""

from __future__ import annotations


def configure() -> None:
    """Configure Django, unless another test has."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            DATABASES={},
            INSTALLED_APPS=[
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "django.contrib.sessions",
                "django.contrib.messages",
                "django_polydatum",
            ],
            POLYDATUM={"DATA_MANAGER": None},
            ROOT_URLCONF=None,
            SECRET_KEY="for tests only",
            USE_TZ=True,
        )
        django.setup()
