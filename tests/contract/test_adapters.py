"""Our adapters, held to the contract in each way that their frameworks call a view."""

from __future__ import annotations

import pytest

from polydatum.testing import AdapterContract
from tests.contract.asgi_hosts import BareAsgiHost, FastApiHost, LitestarHost, QuartHost, StarletteHost
from tests.contract.django_hosts import DjangoHost
from tests.contract.flask_hosts import FlaskHost
from tests.contract.plain_hosts import PlainHost
from tests.contract.wsgi_hosts import BareWsgiHost, BottleHost, FalconHost, PyramidHost, WerkzeugHost

pytestmark = pytest.mark.usefixtures("django_settings")


class TestPlain(AdapterContract):
    host = PlainHost(is_async=False)


class TestPlainAsync(AdapterContract):
    host = PlainHost(is_async=True)


class TestBareAsgi(AdapterContract):
    host = BareAsgiHost()


class TestStarlette(AdapterContract):
    host = StarletteHost(in_thread=False)


class TestStarletteInThread(AdapterContract):
    host = StarletteHost(in_thread=True)


class TestFastApi(AdapterContract):
    host = FastApiHost(in_thread=False)


class TestFastApiInThread(AdapterContract):
    host = FastApiHost(in_thread=True)


class TestLitestar(AdapterContract):
    host = LitestarHost()


class TestQuart(AdapterContract):
    host = QuartHost()


class TestBareWsgi(AdapterContract):
    host = BareWsgiHost()


class TestWerkzeug(AdapterContract):
    host = WerkzeugHost()


class TestBottle(AdapterContract):
    host = BottleHost()


class TestFalcon(AdapterContract):
    host = FalconHost()


class TestPyramid(AdapterContract):
    host = PyramidHost()


class TestFlask(AdapterContract):
    host = FlaskHost(is_async=False)


class TestFlaskAsyncView(AdapterContract):
    host = FlaskHost(is_async=True)


class TestDjangoWsgi(AdapterContract):
    host = DjangoHost(over="wsgi", is_async=False)


class TestDjangoWsgiAsyncView(AdapterContract):
    host = DjangoHost(over="wsgi", is_async=True)


class TestDjangoAsgi(AdapterContract):
    host = DjangoHost(over="asgi", is_async=True)


class TestDjangoAsgiSyncView(AdapterContract):
    host = DjangoHost(over="asgi", is_async=False)
