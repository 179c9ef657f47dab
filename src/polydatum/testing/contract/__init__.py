"""What every adapter owes, whatever the framework: a suite that an adapter runs by naming its `Host`.

A module per theme. The numbers in the names of tests are those of the list of behaviours that adapters owe.
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

    Each test calls a view that works with a small shop on a SQLite file, and looks at what went over the wire, what was
    logged, what the resources did in which order, and what the file holds. Numbers in the names of tests are those of the
    list of behaviours in the documentation. A test that needs what the framework does not have is skipped with the reason
    that the host gives.
    """
