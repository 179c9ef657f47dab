"""wireup: a session per request, in each of its integrations."""

from collections.abc import Iterator

from sqlalchemy.orm import Session
from wireup import injectable

from tests.truth import bank


@injectable(lifetime="scoped")
def session_factory() -> Iterator[Session]:
    with bank.Sessions() as session:
        try:
            yield session
        except Exception:
            session.rollback()
            raise
        else:
            session.commit()
