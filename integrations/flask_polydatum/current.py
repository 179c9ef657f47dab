"""The DataManager of the current app, and what depends on it: `context` and `dal`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask
from werkzeug.local import LocalProxy

from flask_polydatum.configuration import EXTENSION, Configuration
from polydatum import Context, DataManager, Meta, NoActiveContextError
from polydatum.adapting import AdapterMissingError

_WHERE = (
    "use it while a request is handled, in a command with @flask_polydatum.with_context, "
    "or in 'with flask_polydatum.context():'; a thread that a view starts has no context, even with "
    "copy_current_request_context, run polydatum.bind(fn) in it"
)


def current_configuration(wanted: str) -> Configuration:
    """Polydatum's configuration in the current app.

    Args:
        wanted: what it is needed for, as the user would write it.

    Raises:
        AdapterMissingError: if there is no current app, or Polydatum is not installed in it.
    """
    if not flask.has_app_context():
        raise AdapterMissingError(
            wanted,
            "there is no current app here; use it in a request, in a command, or in 'with app.app_context():'; "
            "a thread that a view starts has none either, run polydatum.bind(fn) in it",
        )
    app = flask.current_app
    configuration: Configuration | None = app.extensions.get(EXTENSION)
    if configuration is None:
        raise AdapterMissingError(
            wanted, f"flask_polydatum is not installed in the app {app.name!r}; call FlaskPolydatum(dm).init_app(app)"
        )
    return configuration


def current_manager(wanted: str) -> DataManager[Any, Any]:
    """The DataManager of the current app; see `current_configuration`."""
    return current_configuration(wanted).data_manager


def current_dal(manager: DataManager[Any, Any], wanted: str) -> Any:
    """The DAL of the current context.

    Raises:
        AdapterMissingError: if there is none.
        ContextClosedError: if it has closed.
    """
    try:
        return manager.require_active_context().dal
    except NoActiveContextError:
        raise AdapterMissingError(wanted, _WHERE) from None


def context(meta: Mapping[str, Any] | Meta | None = None) -> Context:
    """A new Context of the current app's DataManager, for scripts, commands and tests; use it with ``with``.

    It is independent of any context that is already open, and ends with the block: it commits at the end, or rolls back
    if an exception leaves the block, unless the app's ``rollback_on`` decides otherwise. Needs an app context;
    ``dm.context()`` needs none, and does not apply the app's rules.

    Args:
        meta: the read-only facts of the context, such as ``{"user": ...}``.

    Raises:
        AdapterMissingError: if there is no current app, or Polydatum is not installed in it.

    Example::

        with app.app_context(), flask_polydatum.context({"user": "ann"}) as ctx:
            ctx.dal.items.rename(1, "tea")
    """
    return current_configuration("flask_polydatum.context()").new_context(meta)


dal: Any = LocalProxy(lambda: current_dal(current_manager("flask_polydatum.dal"), "flask_polydatum.dal"))
"""The DAL of the current app's current context: in requests, commands with ``@with_context``, blocks of `context`.

Elsewhere it raises `AdapterMissingError`; in a streamed body, `ContextClosedError`. For type checkers it is ``Any``;
`FlaskPolydatum.dal` is typed.
"""
