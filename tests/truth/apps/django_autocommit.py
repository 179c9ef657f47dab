"""Django's default: each statement commits."""

from tests.truth.apps.web_django import make_app

app = make_app("tests.truth.apps.django_models")
