"""pyramid_tm with its veto by status."""

from tests.truth.apps.pyramid_tm_app import make

app = make(**{"tm.commit_veto": "pyramid_tm.default_commit_veto"})
