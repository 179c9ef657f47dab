"""Management commands that work with the DAL."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from django_polydatum.configuration import Configuration
from polydatum import ConfigurationError


class ContextCommand:
    """Mixin for a management command whose ``handle`` runs in a Context of its own. Put it before BaseCommand.

    ``self.dal`` is the DAL, ``self.context`` the Context; ``ctx.meta.command`` is the name of the command. The context
    commits when ``handle`` returns, or exits with status 0. Any exception, including CommandError, and any other exit
    status roll back. If the commit fails, so does the command.

    Raises:
        ConfigurationError: when the class is defined, if the mixin comes after BaseCommand; when the command runs, if
            the setting ``POLYDATUM`` is invalid.

    Example::

        class Command(ContextCommand, BaseCommand):
            def handle(self, *args, **options):
                self.dal.items.add("tea")
                if options["dry_run"]:
                    self.context.set_rollback_only("dry run")
    """

    context: Any
    """The Context of the running command."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a class in which BaseCommand.execute() would take precedence."""
        super().__init_subclass__(**options)
        order = cls.__mro__
        if BaseCommand in order and order.index(BaseCommand) < order.index(ContextCommand):
            raise ConfigurationError(f"class {cls.__qualname__}: put ContextCommand before BaseCommand")

    @property
    def dal(self) -> Any:
        """The DAL."""
        return self.context.dal

    def execute(self, *args: Any, **options: Any) -> Any:
        """Called by Django: run the command."""
        name = type(self).__module__.rpartition(".")[2]  # Django's own rule
        context = self.context = Configuration().new_context({"command": name})
        context.open()
        try:
            output = super().execute(*args, **options)  # type: ignore[misc]
        except SystemExit as leaving:
            context.close(None if leaving.code in (None, 0) else leaving)
            raise
        except BaseException as error:
            context.close(error)
            raise  # even if a context middleware suppressed it: the command has failed
        context.close()
        return output
