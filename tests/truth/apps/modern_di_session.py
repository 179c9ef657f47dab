"""modern-di: a session per request, in each of its integrations. Finalizers only close: they are not told of errors."""

from modern_di import Group, Scope, providers
from sqlalchemy.orm import Session

from tests.truth import bank


def create_session() -> Session:
    return bank.Sessions()


class Sessions(Group):
    session = providers.Factory(
        create_session, scope=Scope.REQUEST, cache=providers.CacheSettings(finalizer=Session.close)
    )
