"""dishka: a session per request, in each of its integrations. It passes the error as the value of the ``yield``."""

from collections.abc import Iterable

from dishka import Provider, Scope, provide
from sqlalchemy.orm import Session

from tests.truth import bank


class SessionProvider(Provider):
    @provide(scope=Scope.REQUEST)
    def session(self) -> Iterable[Session]:
        with bank.Sessions() as session:
            error = yield session
            if error is None:
                session.commit()
            else:
                session.rollback()
