"""The same rules as for the unit tests."""

from tests.unit.conftest import no_context_left

__all__ = ["no_context_left"]
