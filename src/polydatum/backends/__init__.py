"""Ready-made resources for common clients, one module per client. Only that module imports the client.

Each backend takes a URL, or a client of your own, which it never closes. It connects on first use, takes part in the
context's outcome, and answers `DataManager.ping`. For any other client, subclass `Backend` or `AsyncBackend`.
"""

from polydatum.clients import AsyncBackend, Backend, Ping
from polydatum.transactions import AsyncTransaction, Savepoint, Transaction

__all__ = ["AsyncBackend", "AsyncTransaction", "Backend", "Ping", "Savepoint", "Transaction"]
