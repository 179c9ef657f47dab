"""Polydatum's configuration for a task: from an attribute of the task, and from its Celery app's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.bootsteps import Step

from polydatum import Context, DataManager
from polydatum.adapting import RequestRules, find_manager, find_rule


@dataclass(frozen=True)
class Configuration:
    """The configuration of a task.

    Attributes:
        data_manager: the DataManager of its contexts.
        new_context: the factory for its contexts.
        load_user: ``f(user_id)``, loads the user for an id that came with a message; None: there are no users.
        user_id: ``f(user)``, returns the id to send for a user.
    """

    data_manager: DataManager[Any, Any]
    new_context: Callable[..., Context]
    load_user: Callable[[Any], Any] | None
    user_id: Callable[[Any], Any]

    @classmethod
    def read(cls, app: Celery, data_manager: object = None) -> Configuration:
        """Read a task's attribute ``data_manager`` and the keys ``polydatum_...`` of ``app.conf``.

        Raises:
            ManagerNotFoundError: if neither names a DataManager.
            InvalidManagerError: if what they name is not a DataManager.
            InvalidRuleError: if another value is invalid, or a dotted path cannot be imported.
        """

        def place(name: str) -> tuple[str, object]:
            key = f"polydatum_{name}"
            return f"app.conf.{key}", app.conf.get(key)

        def places(name: str) -> list[tuple[str, object]]:
            return [] if name == "on_commit_error" else [place(name)]  # a failed commit is the task's result

        manager = find_manager(("PolydatumTask.data_manager", data_manager), place("data_manager"))
        return cls(
            manager,
            RequestRules.find(places).context_factory(manager),
            find_rule("load_user", place("load_user")),
            find_rule("user_id", place("user_id")) or usual_user_id,
        )


def usual_user_id(user: Any) -> object:
    """The default id of a user: a string or number itself, otherwise its ``pk`` or ``id``.

    Example:
        >>> usual_user_id("ann"), usual_user_id(None)
        ('ann', None)
    """
    if isinstance(user, str | int):
        return user
    return getattr(user, "pk", None) or getattr(user, "id", None)


class CheckConfiguration(Step):
    """Makes a worker fail at its start, not at its first task. A signal cannot: Celery logs its receivers' errors."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        for task in worker.app.tasks.values():
            check = getattr(task, "check_configuration", None)
            if check is not None:
                check()
