"""The bank in Django's ORM, and the views of the stacks that use it."""

from collections.abc import Iterator

from django.db import models
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from tests.truth import bank
from tests.truth.apps.web_django import end, patterns, stream


class Account(models.Model):
    name = models.CharField(max_length=20, primary_key=True)

    class Meta:
        app_label = "bank"
        db_table = "accounts"
        managed = False


class Payment(models.Model):
    payee = models.ForeignKey(Account, models.CASCADE, db_column="payee")
    check_name = models.CharField(max_length=20, db_column="check")

    class Meta:
        app_label = "bank"
        db_table = "payments"
        managed = False


def pay_with_orm(check: str) -> None:
    Payment.objects.create(payee_id=bank.payee(check), check_name=check)


def names_with_orm() -> Iterator[str]:
    for account in Account.objects.order_by("name").iterator():
        yield f"{account.name}\n"


def pay(request: HttpRequest, check: str) -> HttpResponse:
    pay_with_orm(check)
    return end(check)


def names(request: HttpRequest) -> StreamingHttpResponse:
    return stream(names_with_orm())


urlpatterns = patterns(pay, names)
