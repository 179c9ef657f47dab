"""The settings for Django's own ``runtests.py``: those of its tests for SQLite, with a runner that writes down outcomes."""

from test_sqlite import *  # noqa: F403
from transparency_manager import POSITION, manager

if POSITION != "bare":
    import transparency_django  # noqa: F401

    POLYDATUM = {"DATA_MANAGER": manager}

TEST_RUNNER = "transparency_django_runner.RecordingRunner"
