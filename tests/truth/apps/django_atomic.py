"""Django with ATOMIC_REQUESTS."""

from tests.truth.apps.web_django import make_app

app = make_app("tests.truth.apps.django_models", atomic=True)
