"""Polydatum in Django, with Django's ORM."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse

from django_polydatum import orm, stream_context
from polydatum import DataAccessLayer, DataManager, Service
from tests.truth.apps.web_django import end, make_app, patterns, stream
from tests.truth.bank import payee


class PaymentService(Service):
    def pay(self, check: str) -> None:
        from tests.truth.apps.django_models import Payment

        self._ctx.db.objects(Payment).create(payee_id=payee(check), check_name=check)

    def names(self) -> Iterator[str]:
        from tests.truth.apps.django_models import Account

        for account in self._ctx.db.objects(Account).order_by("name").iterator():
            yield f"{account.name}\n"


class BankDAL(DataAccessLayer):
    payments = PaymentService()


dm: DataManager[BankDAL, Any] = DataManager(BankDAL)
dm.register_resources(db=orm())


def pay(request: Any, check: str) -> HttpResponse:
    request.dal.payments.pay(check)
    return end(check)


def names(request: Any) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        with stream_context(request) as ctx:
            yield from ctx.dal.payments.names()

    return stream(lines())


urlpatterns = patterns(pay, names)
app = make_app(
    __name__,
    middleware=("django_polydatum.PolydatumMiddleware",),
    installed=("django_polydatum",),
    POLYDATUM={"DATA_MANAGER": dm},
)
