"""A soak test: thousands of mixed requests to real servers, after which the books have to balance.

``python -m tests.soak --requests 10000`` serves the same ledger with Starlette on uvicorn, then with Flask on
gunicorn's threads, both on PostgreSQL and Redis. See `tests.soak.__main__`.
"""
