"""What a client is told, and what is kept: the same requests to many stacks, over real servers.

``python -m tests.truth`` (``make truth``) starts each stack of `stacks` as a server of its own over a SQLite file, makes
the requests of `checks`, and looks into the file. The table that it prints is that of the page
``docs/explanation/why-the-answer-can-lie.md``, and `test_truth` looks whether the page still says so.

* `bank`: the database, whose commits can be refused, and what a view does with it.
* `stacks`: who takes part, and which page of whose documentation each was set up by.
* `checks`: the requests, and when an answer counts as right.
* `serving`: one stack, from its start to what it has left in the file.
* `report`: the table.
* ``apps/``: the applications. ``web_*`` is what the stacks on one framework share: the routes, the errors and the body
  that streams. The other modules give a view its session, each in the way of its library.
"""
