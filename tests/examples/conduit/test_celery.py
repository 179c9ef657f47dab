"""With a broker, followers are notified by a worker: a real one, which knows Conduit by its environment alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from conduit.hosts.celery import make_app
from conduit.services.errors import NotFound
from conduit.services.layer import ConduitManager
from conduit.services.schemas import NewArticle, NewUser
from polydatum import lazy
from tests.examples.conduit.in_process import manager_at
from tests.examples.conduit.programs import running
from tests.servers.books import eventually
from tests.services import url_of

QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]


@pytest.fixture
def dm(tmp_path: Path) -> Iterator[ConduitManager]:
    """A Conduit whose commands go to a worker."""
    broker = url_of("redis").rpartition("/")[0] + "/9"
    queue = f"conduit-{uuid.uuid4().hex}"
    url = f"sqlite:///{tmp_path}/conduit.db"
    dm = manager_at(url)
    app = make_app(dm, broker)
    app.conf.task_default_queue = queue
    words = ["celery", "-A", "conduit.worker", "worker", "--pool", "solo", "-Q", queue, *QUIET]
    with running(tmp_path, *words, database=url, CELERY_BROKER_URL=broker) as worker:
        worker.wait_for(r" ready\.")
        yield dm
        worker.stop()
    assert "Traceback" not in worker.printed
    with redis.Redis.from_url(broker) as client:
        client.delete(*client.keys(f"*{queue}*"))
    app.close()
    dm.close()


def by(dm: ConduitManager, name: str) -> Any:
    return dm.dal(meta={"user": lazy(lambda: dm.get_dal().users.find(name))})


def publish(dm: ConduitManager, title: str, *, fail: bool = False) -> None:
    with by(dm, "ann") as dal:
        dal.articles.publish(NewArticle(title=title, description="About", body="Text"))
        if fail:
            dal.articles.get("nothing")


def test_a_worker_notifies_the_followers_of_what_was_kept(dm: ConduitManager) -> None:
    with dm.dal() as dal:
        for name in ("ann", "bob"):
            dal.users.register(NewUser(username=name, email=f"{name}@example.org", password="secret"))
    with by(dm, "bob") as dal:
        dal.profiles.follow("ann")
    with pytest.raises(NotFound):
        publish(dm, "Not kept", fail=True)
    publish(dm, "Kept")

    def notified() -> list[str]:
        with by(dm, "bob") as dal:
            titles: list[str] = dal.notifications.titles()
        return titles

    eventually(lambda: notified() == ["Kept"], "bob is notified")
