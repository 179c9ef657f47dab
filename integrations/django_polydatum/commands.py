"""Management commands that work with the DAL."""

from __future__ import annotations

from typing import Any

from django_polydatum.configuration import Configuration


class ContextCommand:
    """Mixin: a management command whose ``handle`` runs in a Context of its own. Put it before BaseCommand.

    ``self.dal`` is the DAL, ``self.context`` the Context; ``ctx.meta.command`` is the name of the command. What the command
    did is committed when ``handle`` returns, or exits with status 0. Any exception, CommandError included, and any other
    exit roll back. If the commit fails, so does the command.

    Raises:
        ConfigurationError: when the command runs, if the setting ``POLYDATUM`` cannot be used.

    Example::

        class Command(ContextCommand, BaseCommand):
            def handle(self, *args, **options):
                self.dal.items.add("tea")
                if options["dry_run"]:
                    self.context.set_rollback_only("dry run")
    """

    context: Any
    """The Context, while the command runs."""

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
            raise  # also if a context middleware suppressed it: the command has failed
        context.close()
        return output
