"""modern-di: a session for each request, in each of its integrations. Its finalizer closes: it does not hear of errors."""

from modern_di import Group, Scope, providers
from sqlalchemy.orm import Session

from tests.truth import bank


def create_session() -> Session:
    return bank.Sessions()


class Sessions(Group):
    session = providers.Factory(
        create_session, scope=Scope.REQUEST, cache=providers.CacheSettings(finalizer=Session.close)
    )
