"""Ready-made resources for the clients people use, one module per client; each imports its client, and nothing else does.

All accept a URL, or the user's own object, which they never close. They connect when they are used first, take part in the
context's outcome, and answer `DataManager.ping`. For a client without a module here, subclass `Backend` or `AsyncBackend`.
"""

from polydatum.clients import AsyncBackend, Backend, Ping
from polydatum.transactions import AsyncTransaction, Savepoint, Transaction

__all__ = ["AsyncBackend", "AsyncTransaction", "Backend", "Ping", "Savepoint", "Transaction"]
