"""wireup in Celery."""

from typing import Any

import wireup.integration.celery
from sqlalchemy.orm import Session
from wireup import Injected, create_sync_container
from wireup.integration.celery import inject

from tests.truth import bank
from tests.truth.apps.tasks import end, make_app, run
from tests.truth.apps.wireup_session import session_factory

app = make_app()
wireup.integration.celery.setup(create_sync_container(injectables=[session_factory]), app)


@app.task(bind=True)
@inject
def pay(self: Any, check: str, session: Injected[Session]) -> None:
    bank.pay(session, check)
    end(self, check)


if __name__ == "__main__":
    run(pay)
