"""Polydatum in Celery."""

from typing import Any

from celery_polydatum import PolydatumTask
from tests.truth.apps.polydatum_layer import dm
from tests.truth.apps.tasks import end, make_app, run

app = make_app()
app.Task = PolydatumTask
app.conf.polydatum_data_manager = dm


@app.task(bind=True)
def pay(self: Any, check: str) -> None:
    self.dal.payments.pay(check)
    end(self, check)


if __name__ == "__main__":
    run(pay)
