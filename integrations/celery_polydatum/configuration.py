"""How Polydatum is set up for a task: by an attribute of the task and by the configuration of its Celery app."""

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
    """What a task is told.

    Attributes:
        data_manager: the DataManager that its contexts are of.
        new_context: what makes them.
        load_user: ``f(user_id)``, the user of an id that came with a message; None: there are no users.
        user_id: ``f(user)``, the id to send of a user.
    """

    data_manager: DataManager[Any, Any]
    new_context: Callable[..., Context]
    load_user: Callable[[Any], Any] | None
    user_id: Callable[[Any], Any]

    @classmethod
    def read(cls, app: Celery, data_manager: object = None) -> Configuration:
        """Make it of the attribute ``data_manager`` of a task and of the keys ``polydatum_...`` of ``app.conf``.

        Raises:
            ManagerNotFoundError: if neither names a DataManager.
            InvalidManagerError: if what they name is something else.
            InvalidRuleError: if another value is none of its kind, or a dotted path leads nowhere.
        """

        def place(name: str) -> tuple[str, object]:
            key = f"polydatum_{name}"
            return f"app.conf.{key}", app.conf.get(key)

        def places(name: str) -> list[tuple[str, object]]:
            return [] if name == "on_commit_error" else [place(name)]  # a failed commit is the result of its task

        manager = find_manager(("PolydatumTask.data_manager", data_manager), place("data_manager"))
        return cls(
            manager,
            RequestRules.find(places).context_factory(manager),
            find_rule("load_user", place("load_user")),
            find_rule("user_id", place("user_id")) or usual_user_id,
        )


def usual_user_id(user: Any) -> object:
    """The id of a user where nobody says how to find it: what is a string or a number itself, else its ``pk`` or ``id``.

    Example:
        >>> usual_user_id("ann"), usual_user_id(None)
        ('ann', None)
    """
    if isinstance(user, str | int):
        return user
    return getattr(user, "pk", None) or getattr(user, "id", None)


class CheckConfiguration(Step):
    """Lets a worker fail when it starts, not at its first task; signals cannot: Celery logs what their receivers raise."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        for task in worker.app.tasks.values():
            check = getattr(task, "check_configuration", None)
            if check is not None:
                check()
