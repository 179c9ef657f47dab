"""Micro-benchmarks: what a Context costs, beside hand-written code and beside the best peer.

``python -m tests.benchmarks`` measures all rows and prints one table per area.

How a figure is made
====================
Absolute times differ by half from run to run on a shared machine, so every figure is a ratio taken
within one run: to the *limit* (the same work written by hand: a ContextVar, a ``try/finally``
generator, a direct call) and to the best *peer* (libraries that do the same work, pinned in
``requirements.txt``).

* Each row of the table is measured in processes of its own, five of them by default: a hash
  collision of ContextVars can add 0.4 µs to a row for the whole life of a process.
* In a process every contender is first *proved*: its work runs a few times, and the counters in
  ``resources`` must show that each time opened and closed what the row says, and a profile that the
  middleware, methods and hooks of the row really ran. Who fails is reported and not timed.
* The contenders then take turns in short samples of about a millisecond. The order is rotated every
  round, the garbage collector is off and everything alive is frozen. Sync contenders run in a
  ``contextvars.Context`` each, so that none pays for the variables of another.
* A contender's figure is the minimum of its samples over all rounds and processes. Ours, the limit
  and the peers each take their own minimum; ratios are formed only from these.
* Over HTTP an application is called in process, see ``serving``, and what it takes over the bare framework is the
  figure. A difference of two large numbers wants many samples, so these rows take five times as many
  rounds and twice as many processes. Two minima's difference repeats only within 20 %. So the lower deciles stand
  in for the minima, and the mean over the processes for the least of them: within about 10 %.
* A contender loops over its work itself (``run(times)``), so no call made by the harness sits in
  the figure and flatters the ratio of rows that cost less than 0.1 µs.

Where things are
================
``budgets``     the rows and what each may cost, written once, as data
``sync``, ``async_``, ``http_``, ``memory``   one module per area: how its rows are proved and measured
``contenders``  the limit, ours and one module per peer, all of the same shape; ``http_*`` are those of the HTTP rows
``serving``     calls an application as a server would
``rounds``      the timing itself; ``process`` is one measuring process, ``__main__`` starts them
``results``, ``report``   figures and verdicts; tables, JSON and Markdown

A new area is a module with a ``measure`` like that of ``sync``, its line in ``process.MEASURE`` and its
rows in ``budgets``.
"""
