"""The same requests get the same answers from all hosts, byte for byte."""

from __future__ import annotations

from pathlib import Path

from tests.examples.conduit.in_process import HOSTS, client_of, manager_at
from tests.examples.conduit.scenario import play


def transcript_of(host: str, folder: Path) -> list[bytes]:
    dm = manager_at(f"sqlite:///{folder}/{host}.db")
    with client_of(host, dm) as client:
        lines = play(client, "equal-")
    dm.close()
    return lines


def test_a_long_visit_gets_the_same_answers_from_all_hosts(tmp_path: Path) -> None:
    first, *others = (transcript_of(host, tmp_path) for host in HOSTS)
    assert len(first) > 75
    assert not [line for line in first if line.startswith(b"5")]
    for other in others:
        assert other == first
