"""A soak: thousands of mixed requests to real servers, and afterwards the books have to balance.

``python -m tests.soak --requests 10000`` serves the same ledger by Starlette on uvicorn and by Flask on gunicorn's threads,
one after the other, over PostgreSQL and Redis. See `tests.soak.__main__`.
"""
