"""What a server of a load run serves: a host, wired by Polydatum or by hand, as the environment says."""

from __future__ import annotations

import os
from importlib import import_module

from conduit.services.layer import data_manager_from_environment
from conduit.services.tokens import Tokens
from tests.load.twins.wiring import Wiring

host = os.environ["LOAD_HOST"]
if os.environ["LOAD_WIRING"] == "polydatum":
    app = import_module(f"conduit.hosts.{host}").make_app(data_manager_from_environment())
else:
    wiring = Wiring(os.environ["DATABASE_URL"], Tokens(os.environ["CONDUIT_SECRET"]))
    app = import_module(f"tests.load.twins.{host}").make_app(wiring)
