"""wireup in Django, with SQLAlchemy."""

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from sqlalchemy.orm import Session
from wireup import Injected
from wireup.integration.django import WireupSettings

from tests.truth import bank
from tests.truth.apps.web_django import end, make_app, patterns, stream
from tests.truth.apps.wireup_session import session_factory


def pay(request: HttpRequest, check: str, session: Injected[Session]) -> HttpResponse:
    bank.pay(session, check)
    return end(check)


def names(request: HttpRequest, session: Injected[Session]) -> StreamingHttpResponse:
    return stream(bank.names(session))


urlpatterns = patterns(pay, names)
app = make_app(
    __name__,
    middleware=("wireup.integration.django.wireup_middleware",),
    installed=("wireup.integration.django",),
    WIREUP=WireupSettings(injectables=[session_factory]),
)
