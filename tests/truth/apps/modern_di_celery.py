"""modern-di in Celery; the task commits."""

from typing import Annotated, Any

from modern_di import Container
from modern_di_celery import DITask, FromDI, setup_di
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.modern_di_session import Sessions
from tests.truth.apps.tasks import end, make_app, run

app = make_app()
setup_di(app, Container(groups=[Sessions]))


@app.task(bind=True, base=DITask)
def pay(self: Any, check: str, session: Annotated[Session, FromDI(Sessions.session)]) -> None:
    bank.pay(session, check)
    end(self, check)
    session.commit()


if __name__ == "__main__":
    run(pay)
