"""dishka in Celery."""

from typing import Any

from dishka import make_container
from dishka.integrations.celery import DishkaTask, FromDishka, setup_dishka
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.dishka_session import SessionProvider
from tests.truth.apps.tasks import end, make_app, run

app = make_app()
setup_dishka(make_container(SessionProvider()), app)


@app.task(bind=True, base=DishkaTask)
def pay(self: Any, check: str, session: FromDishka[Session]) -> None:
    bank.pay(session, check)
    end(self, check)


if __name__ == "__main__":
    run(pay)
