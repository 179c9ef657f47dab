"""The sender of a task: a user id in a header of the message. It identifies a user, but grants no rights.

Anyone who can write to the broker can claim any id. The rights are those of the user that is loaded for the id.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import celery
from celery.signals import before_task_publish

from celery_polydatum.configuration import Configuration
from polydatum import ConfigurationError, Context, DataManager, lazy
from polydatum.adapting import UserId

HEADER = "polydatum"
"""The header of a task's message: ``{"user_id": ...}``."""


def sent_by(request: Any) -> UserId | None:
    """The user id that came with a task; None if it is missing or of another type."""
    header = (request.headers or {}).get(HEADER)
    found = header.get("user_id") if isinstance(header, Mapping) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def with_sender(headers: Mapping[str, Any] | None, configuration: Configuration) -> dict[str, Any] | None:
    """The headers for a message, with the current user's id added, unless they have one or there is none."""
    if headers is not None and HEADER in headers:
        return dict(headers)
    sender = current_sender(configuration, configuration.data_manager)
    if sender is None:
        return None if headers is None else dict(headers)
    return {**(headers or {}), HEADER: {"user_id": sender}}


def current_sender(configuration: Configuration, data_manager: DataManager[Any, Any]) -> UserId | None:
    """The current user's id, from the context of a DataManager."""
    context = data_manager.get_active_context()
    if context is not None:
        return _user_id(context, configuration)
    task: Any = celery.current_task  # the next step of a chain is sent after the previous one's context has ended
    return sent_by(task.request) if task else None


def _user_id(context: Context, configuration: Configuration) -> UserId | None:
    meta = context.meta
    if "user_id" in meta:  # in a task: the user need not be loaded
        found = meta["user_id"]
    elif configuration.load_user is not None and meta.user is not None:
        found = configuration.user_id(meta.user)
    else:
        return None
    return found if found is None or isinstance(found, str | int) else str(found)


@before_task_publish.connect
def add_sender(headers: dict[str, Any], **_: Any) -> None:
    """Add the sender to tasks that ``app.send_task`` sends by name; only Celery's current app is known there."""
    if HEADER in headers:
        return
    try:
        configuration = Configuration.read(celery.current_app)
    except ConfigurationError:
        return  # that app does not use Polydatum, or its tasks have DataManagers of their own
    headers.update(with_sender(headers, configuration) or {})


def task_facts(task: Any, user_id: UserId | None) -> dict[str, Any]:
    """The ``meta`` of a task's context: the facts of the task, and its user."""
    request = task.request
    load = task.polydatum_configuration.load_user
    return {
        "task_id": request.id,
        "task_name": task.name,
        "retries": request.retries,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "user_id": user_id,
        "user": None if load is None or user_id is None else lazy(partial(load, user_id)),
    }
