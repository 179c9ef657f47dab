"""``python -m tests.load``: drive both applications of every host, and print the ratios. See the package for how."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from traceback import format_exception_only

import pytest

from tests.examples.conduit.databases import database
from tests.load import generator, report, wrk
from tests.load.measuring import Load, Measured, Untrue, measure
from tests.load.serving import HOSTS, both, only_answering
from tests.load.site import site_at

DATABASES = ("sqlite", "postgres")
GENERATORS = {"wrk": wrk.drive, "asyncio": generator.drive}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--app", action="append", choices=HOSTS, help="only this host; may be repeated")
    parser.add_argument("--database", action="append", choices=DATABASES, help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a slice; wrk knows whole ones only")
    parser.add_argument("--rounds", type=int, default=4, help="of four slices each")
    parser.add_argument("--connections", type=int, default=8, help="each with one request at a time")
    parser.add_argument(
        "--generator", choices=GENERATORS, default="wrk" if wrk.is_there() else "asyncio", help="default: %(default)s"
    )
    return parser.parse_args()


def run(hosts: Sequence[str], databases: Sequence[str], load: Load) -> Iterator[Measured]:
    """Measure cell by cell; a database whose server does not answer is left out.

    Raises:
        Untrue: if a figure would say nothing.
    """
    for kind in databases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                with database(kind, folder) as url, site_at(url) as site:
                    for host in hosts:
                        with both(host, site.url, folder, threads=load.connections) as ports:
                            for endpoint in site.endpoints:
                                print(host, kind, endpoint.name, file=sys.stderr, flush=True)
                                rounds = measure(site, endpoint, ports, load)
                                yield Measured(host, kind, endpoint.name, rounds)
            except pytest.skip.Exception as missing:
                print(f"left out: {missing}", file=sys.stderr)


def main() -> int:
    """Returns 1 if the applications do not do the same."""
    chosen = _arguments()
    load = Load(GENERATORS[chosen.generator], chosen.connections, chosen.seconds, chosen.rounds)
    begun, busy = monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, only_answering(Path(folder)) as port:
        most = load.drive(port, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], connections=load.connections, seconds=1)
    found: list[Measured] = []
    problem = None
    try:
        found.extend(run(chosen.app or list(HOSTS), chosen.database or DATABASES, load))
    except (Untrue, RuntimeError) as error:  # the latter: a server does not start
        problem = "PROBLEM " + "".join(format_exception_only(error))
    print(report.markdown(found))
    print(
        f"\n{chosen.connections} connections, {chosen.rounds} rounds of four slices of {chosen.seconds:g} s, "
        f"{monotonic() - begun:.0f} s in all, on {os.cpu_count()} cores; their load was {busy:.1f} before. The generator, "
        f"{chosen.generator}, did {most.rate:.0f} requests/s with an application that only answers.\n{report.surroundings()}"
    )
    below = report.below(found)
    print("\n".join([f"Below {report.GOAL}:", *below] if below else [f"Nothing is below {report.GOAL}."]))
    if problem is not None:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
