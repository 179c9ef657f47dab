"""Polydatum: the services of all its stacks except Django's, on SQLAlchemy."""

from collections.abc import Iterator
from typing import Any

from polydatum import DataAccessLayer, DataManager, Service
from polydatum.backends.sqlalchemy import SQLAlchemyBackend
from tests.truth import bank


class PaymentService(Service):
    def pay(self, check: str) -> None:
        bank.pay(self._ctx.db, check)

    def names(self) -> Iterator[str]:
        return bank.names(self._ctx.db)


class BankDAL(DataAccessLayer):
    payments = PaymentService()


dm: DataManager[BankDAL, Any] = DataManager(BankDAL)
dm.register_resources(db=SQLAlchemyBackend(bank.Sessions))
