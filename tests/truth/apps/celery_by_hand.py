"""A session in the task."""

from typing import Any

from tests.truth import bank
from tests.truth.apps.tasks import end, make_app, run

app = make_app()


@app.task(bind=True)
def pay(self: Any, check: str) -> None:
    with bank.Sessions.begin() as session:
        bank.pay(session, check)
        end(self, check)


if __name__ == "__main__":
    run(pay)
