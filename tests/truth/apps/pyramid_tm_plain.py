"""pyramid_tm without a veto: what is returned commits."""

from tests.truth.apps.pyramid_tm_app import make

app = make()
