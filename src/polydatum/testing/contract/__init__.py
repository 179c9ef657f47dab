"""The behaviours required of every adapter, whatever its framework: a suite that runs through the adapter's `Host`.

One module per topic. The numbers in the names of tests refer to the list of adapter behaviours.
"""

from __future__ import annotations

from .answers import Answers
from .contexts import Contexts
from .metadata import Metadata
from .outcomes import Outcomes
from .teardown import Teardown
from .transparency import Transparency

__all__ = ["AdapterContract"]


class AdapterContract(Answers, Outcomes, Teardown, Contexts, Metadata, Transparency):
    """The behaviours that all adapters share. Subclass it, and set ``host`` to a `Host`.

    ::

        class TestMyAdapter(AdapterContract):
            host = MyHost()

    Each test calls a view that works with a small shop on a SQLite file, and checks what went over the wire, what was
    logged, what the resources did in which order, and what the file contains. The numbers in the names of tests refer
    to the list of behaviours in the documentation. A test that needs a feature which the framework lacks is skipped,
    with the host's reason.
    """
