"""Compares what clients are told with what is committed: the same requests to many stacks, over real servers.

``python -m tests.truth`` (``make truth``) starts each stack of `stacks` as a separate server on a SQLite file, makes
the requests of `checks`, and compares the answers with the file. It prints the table of the page
``docs/explanation/why-the-answer-can-lie.md``; `test_truth` tests that the page is up to date.

* `bank`: the database, whose commits can be refused, and what a view does with it.
* `stacks`: the stacks, each with the page of documentation that its setup follows.
* `checks`: the requests, and when an answer counts as right.
* `serving`: runs one stack, and collects its answers and the rows in the file.
* `report`: the table.
* ``apps/``: the applications. ``web_*`` modules contain what the stacks on one framework share: the routes, the errors
  and the streamed body. The other modules give a view its session, each in the way of its library.
"""
