"""pyramid_tm without a veto: every returned response commits."""

from tests.truth.apps.pyramid_tm_app import make

app = make()
