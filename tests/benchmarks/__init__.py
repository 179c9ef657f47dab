"""Micro-benchmarks: the cost of a Context, compared with hand-written code and with the best peer.

``python -m tests.benchmarks`` measures all rows and prints one table per area.

How a figure is made
====================
On a shared machine absolute times vary by half from run to run. So every figure is a ratio taken
within one run: to the *limit* (the same work written by hand: a ContextVar, a ``try/finally``
generator, a direct call) and to the best *peer* (libraries that do the same work, pinned in
``requirements.txt``).

* Each row of the table is measured in separate processes, by default five: a hash collision of
  ContextVars can add 0.4 µs to a row for the whole life of a process.
* In each process every contender is first *proved*: its work runs a few times. The counters in
  ``resources`` must show that each run opened and closed what the row says, and a profile must show
  that the middleware, methods and hooks of the row really ran. A contender that fails is reported
  and not timed.
* The contenders then take turns in short samples of about a millisecond. The order is rotated every
  round, the garbage collector is off and all live objects are frozen. Each sync contender runs in
  its own ``contextvars.Context``, so that none pays for the variables of another.
* A contender's figure is the minimum of its samples over all rounds and processes. Ours, the limit
  and the peers each take their own minimum; ratios are formed only from these.
* Over HTTP an application is called in process (see ``serving``), and the figure is the time that it adds to the
  bare framework. The difference of two large numbers needs many samples, so these rows take five times as many
  rounds and twice as many processes. The difference of two minima repeats only within 20 %. So the lower deciles
  replace the minima, and the mean over the processes replaces their minimum: this repeats within about 10 %.
* A contender loops over its work itself (``run(times)``), so that the figure contains no call made by
  the harness, which would flatter the ratio of rows that cost less than 0.1 µs.

Modules
=======
``budgets``     the rows and their budgets, as data in one place
``sync``, ``async_``, ``http_``, ``memory``   one module per area: how its rows are proved and measured
``contenders``  the limit, ours and one module per peer, all of the same shape; ``http_*`` are those of the HTTP rows
``serving``     calls an application as a server would
``rounds``      the timing itself; ``process`` is one measuring process, ``__main__`` starts them
``results``, ``report``   figures and verdicts; tables, JSON and Markdown

To add an area, write a module with a ``measure`` like that of ``sync``, and add a line to
``process.MEASURE`` and rows to ``budgets``.
"""
