"""The load harness: it measures what it says, and refuses a comparison that would say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load import generator, report, wrk
from tests.load.measuring import Load, Measured, Ports, Untrue, measure, rate
from tests.load.serving import HOSTS, both, only_answering
from tests.load.site import Endpoint, Site, site_at
from tests.load.slices import Slice

SHORT = Load(generator.drive, connections=2, seconds=0.1, rounds=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(f"sqlite:///{tmp_path_factory.mktemp('site')}/conduit.db") as site:
        yield site


@pytest.fixture(scope="module")
def ports(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with both("flask", site.url, tmp_path_factory.mktemp("flask"), threads=2) as ports:
        yield ports


@pytest.mark.parametrize("host", HOSTS)
def test_each_endpoint_is_a_line_of_the_table(site: Site, tmp_path: Path, host: str) -> None:
    with both(host, site.url, tmp_path, threads=2) as ports:
        found = [Measured(host, "sqlite", one.name, measure(site, one, ports, SHORT)) for one in site.endpoints]
    lines = report.markdown(found).splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["article list", "article", "favourite"]
    assert all(one.ours.answers and one.theirs.answers for one in found)
    assert site.count_favorites()


def test_answers_that_differ_are_refused(site: Site, ports: Ports, tmp_path: Path) -> None:
    with only_answering(tmp_path) as other, pytest.raises(Untrue, match="theirs"):
        measure(site, site.endpoints[0], Ports(ports.ours, other), SHORT)


def test_an_error_is_refused_although_both_give_it(site: Site, ports: Ports) -> None:
    with pytest.raises(Untrue, match="404"):
        measure(site, Endpoint("nothing", [b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"]), ports, SHORT)


def test_answers_that_leave_nothing_are_refused(site: Site, ports: Ports) -> None:
    reading = site.endpoints[1]._replace(writes=True)
    with pytest.raises(Untrue, match="of which 0 were kept"):
        measure(site, reading, ports, SHORT)


@pytest.mark.skipif(not wrk.is_there(), reason="wrk is not installed")
def test_wrk_sends_the_same(site: Site, ports: Ports) -> None:
    favorite = site.endpoints[-1]
    site.forget_favorites()
    seen = wrk.drive(ports.ours, favorite.requests, connections=2, seconds=1)
    assert not seen.failures
    assert 0 < seen.answers <= site.count_favorites()
    assert seen.percentile(99) > 0


def test_a_percentile_is_what_so_many_did_not_exceed() -> None:
    seen = Slice(100, 1.0, latencies=Counter({1000: 98, 2000: 1, 9000: 1}))
    assert [seen.percentile(percent) for percent in (50, 98, 99, 100)] == [1.0, 1.0, 2.0, 9.0]


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    rounds = [(Slice(answers, 1.0), Slice(100, 1.0)) for answers in (90, 97, 150)]
    measured = Measured("flask", "sqlite", "article", rounds)
    assert measured.ratio(rate) == (0.97, 0.9, 1.5)
    assert report.below([measured]) == []
    assert report.below([Measured("flask", "sqlite", "article", rounds[:1])]) == ["Flask, SQLite, article: 0.900"]
