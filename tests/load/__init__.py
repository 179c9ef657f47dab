"""What Polydatum costs a whole application: Conduit's four hosts under load, beside the same hosts wired by hand.

``python -m tests.load`` asks for a list of articles, for one article, and makes one a favourite: on Starlette, FastAPI, Flask
and Django, over SQLite and PostgreSQL.

How a figure is made
====================
Each of the two applications of a cell has a server of its own, with the same options, and both have one database. They
take turns, ours, theirs, theirs, ours, in slices of a second, so that whatever else the machine does meets both. A round of
four slices gives one ratio; the table has the median of the rounds and, in brackets, the least and the most.

Before anything is timed, both have to give the same bytes. Each slice of favourites begins with none, asks for each pair of
a reader and an article once, and afterwards has to have left as many rows as there were answers. Any answer but a 200 ends
the run.

The load comes from wrk if it is there, from `generator` otherwise; how much it can do at least is measured each time.

What is compared
================
``twins`` has the hosts without Polydatum: the same tables, queries, schemas, tokens, JSON and servers, but a session for each
request in the plain idiom of the framework, with its commit before the answer. See there for what is shared, and why.
"""
