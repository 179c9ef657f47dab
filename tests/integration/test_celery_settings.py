"""How a task finds its DataManager and its settings, and what is said if it does not."""

from __future__ import annotations

from typing import Any

import pytest
from celery.bootsteps import Step

from celery_polydatum import Configuration, PolydatumTask
from celery_polydatum.configuration import CheckConfiguration
from polydatum import ContextClosedError, DataManager
from polydatum.adapting import AdapterMissingError, InvalidManagerError, InvalidRuleError, ManagerNotFoundError
from polydatum.testing.shop import Shop
from tests.integration.celery_running import celery_app, here, work


def is_key_error(error: BaseException | None, status: int | None) -> bool:
    return isinstance(error, KeyError)


def nothing() -> None: ...


def task_of(app: Any, **options: Any) -> Any:
    return app.task(name="task", **options)(nothing)


@pytest.mark.parametrize(
    "manager", [here, "tests.integration.celery_running.here", "tests.integration.celery_running:here"]
)
def test_the_manager_is_an_object_or_a_path(manager: Any) -> None:
    for app, options in (
        (celery_app(polydatum_data_manager=manager), {}),
        (celery_app(), {"data_manager": manager}),
        (celery_app(polydatum_data_manager=DataManager()), {"data_manager": manager}),
    ):
        assert task_of(app, **options).polydatum_configuration.data_manager is here


def test_it_is_found_in_the_namespace_of_django_projects() -> None:
    app = celery_app()
    app.config_from_object(
        {"CELERY_POLYDATUM_DATA_MANAGER": here, "CELERY_TASK_ALWAYS_EAGER": True}, namespace="CELERY"
    )
    assert task_of(app).polydatum_configuration.data_manager is here


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ManagerNotFoundError, "PolydatumTask.data_manager, app.conf.polydatum_data_manager"),
        ({"polydatum_data_manager": DataManager}, InvalidManagerError, "app.conf.polydatum_data_manager"),
        ({"polydatum_data_manager": "nowhere.dm"}, ManagerNotFoundError, "app.conf.polydatum_data_manager"),
        ({"polydatum_data_manager": here, "polydatum_load_user": 7}, InvalidRuleError, "app.conf.polydatum_load_user"),
        (
            {"polydatum_data_manager": here, "polydatum_user_id": "nowhere"},
            InvalidRuleError,
            "app.conf.polydatum_user_id",
        ),
        (
            {"polydatum_data_manager": here, "polydatum_rollback_on": 7},
            InvalidRuleError,
            "app.conf.polydatum_rollback_on",
        ),
        (
            {"polydatum_data_manager": here, "polydatum_teardown_timeout": "7"},
            InvalidRuleError,
            "app.conf.polydatum_teardown_timeout",
        ),
    ],
)
def test_a_mistake_stops_the_worker_and_every_task(settings: Any, error: Any, message: str) -> None:
    app = celery_app(**settings)
    task = task_of(app)

    class Worker:
        def __init__(self) -> None:
            self.app = app

    assert app.tasks
    assert CheckConfiguration in app.steps["worker"]
    assert issubclass(CheckConfiguration, Step)
    with pytest.raises(error, match=message):
        CheckConfiguration(Worker())
    with pytest.raises(error, match=message):
        task()


def test_rules_of_the_app_hold_for_tasks(shop: Shop) -> None:
    app = celery_app(shop, polydatum_rollback_on=is_key_error, polydatum_teardown_timeout=1.5)

    @app.task(name="add", bind=True)
    def add(self: Any, error: Any) -> None:
        self.dal.items.add(type(error).__name__)
        assert shop.here()._limit == 1.5
        raise error

    assert work(add, KeyError("a")).state == "FAILURE"
    assert work(add, ValueError("b")).state == "FAILURE"
    assert shop.names == ["ValueError"]


def test_the_dal_in_a_handler_of_the_task_says_what_to_do(shop: Shop) -> None:
    told: list[str] = []

    class Handled(PolydatumTask):
        name = "handled"

        def run(self) -> None:
            pass

        def on_success(self, *args: Any) -> None:
            with pytest.raises(AdapterMissingError) as raised:
                self.dal  # noqa: B018
            told.append(str(raised.value))

    app = celery_app(shop)
    assert work(app.register_task(Handled())).state == "SUCCESS"
    assert "on_failure and the like have no context: open one there, 'with dm.context():'" in told[0]


def test_the_dal_outside_of_a_run_says_what_to_do(shop: Shop) -> None:
    task = task_of(celery_app(shop))
    with pytest.raises(AdapterMissingError, match="while the function of the task runs"):
        task.dal  # noqa: B018
    with shop.dm.context():
        assert task.dal is shop.dm.get_dal()
    context = shop.dm.context().open()
    context.close(keep_current=True)
    with pytest.raises(ContextClosedError):
        task.dal  # noqa: B018
    context.leave()


def test_the_configuration_may_be_read() -> None:
    app = celery_app(polydatum_data_manager=here)
    assert Configuration.read(app).data_manager is here
