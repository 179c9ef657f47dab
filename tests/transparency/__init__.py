"""Transparency, proven by others: the frameworks' own tests, run without the adapter and with it.

``python -m tests.transparency`` makes an environment of its own (``.venv-transparency``), fetches the source distributions
of the frameworks, which hold their tests, and runs each suite bare and once for every position that the adapter can be
installed in. What is compared is the outcome of every single test. The modules:

* `suites`: which tests, of what, and how the adapter gets in.
* `environment`: where they come from.
* `running`: one run, and what came of it.
* `comparing`: two runs, side by side, and the verdict.
* `differences`: the tests that are known to end otherwise, each with its reason.
* ``inside/``: what runs in the suites' own processes, on their `sys.path`: one plugin for each framework.
"""
