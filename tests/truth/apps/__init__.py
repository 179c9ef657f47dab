"""The applications; see `tests.truth`."""
