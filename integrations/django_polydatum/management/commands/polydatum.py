"""``manage.py polydatum``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_polydatum.checks import TAG
from django_polydatum.configuration import configured_manager
from polydatum import DataManager
from polydatum.adapting import tree


class Command(BaseCommand):
    """``manage.py polydatum tree`` and ``manage.py polydatum check``; neither opens anything."""

    help = "Shows what the DataManager is made of, or what will go wrong with it."
    requires_system_checks = (TAG,)

    def add_arguments(self, parser: CommandParser) -> None:
        """Called by Django."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("tree", help="Lists services with their methods, resources and middleware.")
        actions.add_parser("check", help="Lists what will go wrong, and exits with status 1 if there is anything.")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Called by Django.

        Raises:
            CommandError: if ``check`` has found a problem.
        """
        manager = configured_manager()
        if action == "tree":
            self._show_tree(manager)
        else:
            self._check(manager)

    def _show_tree(self, manager: DataManager[Any, Any]) -> None:
        for line in tree(manager.describe()):
            self.stdout.write(line)

    def _check(self, manager: DataManager[Any, Any]) -> None:
        problems = manager.check()
        for problem in problems:
            self.stdout.write(str(problem))
        if problems:
            raise CommandError(f"{len(problems)} found")
        self.stdout.write("nothing found")
