"""How workers are run: which pool, over which broker; and what a worker and those who send to it agree on."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import kombu
import redis
from celery import Celery
from kombu import Exchange, Queue


@dataclass(frozen=True)
class Deployment:
    """A pool of workers over a broker; the results are always in Redis.

    Attributes:
        prefetch: how many messages it takes at once, for each process or thread of the pool.
    """

    pool: str
    broker: str
    concurrency: int = 3
    prefetch: int = 1

    def __str__(self) -> str:
        return f"{self.pool}-{self.broker}"

    @property
    def command(self) -> list[str]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        size = [f"--concurrency={self.concurrency}", f"--prefetch-multiplier={self.prefetch}"]
        return ["worker", f"--pool={self.pool}", *size, "--loglevel=INFO", *quiet]


ALL = [
    Deployment("prefork", "rabbitmq"),
    Deployment("prefork", "redis"),
    Deployment("threads", "redis"),
    Deployment("gevent", "redis"),
    Deployment("solo", "redis"),
]


COMMANDS = [Deployment("prefork", "rabbitmq"), Deployment("threads", "redis")]
"""Those that run commands over PostgreSQL."""


@dataclass(frozen=True)
class Place:
    """Where a worker and those who send to it meet.

    Attributes:
        name: of the queue, and what the keys in Redis begin with.
        visible: seconds after which Redis gives a message to another worker that was not acknowledged.
    """

    broker: str
    results: str
    name: str
    visible: float = 3600

    @classmethod
    def read(cls) -> Place:
        """From the environment, in a worker."""
        broker, results, name, visible = (os.environ[name] for name in VARIABLES)
        return cls(broker, results, name, float(visible))

    @property
    def environment(self) -> dict[str, str]:
        return dict(zip(VARIABLES, (self.broker, self.results, self.name, str(self.visible)), strict=True))

    @property
    def address(self) -> tuple[str, int]:
        """Of the broker."""
        url = urlsplit(self.broker)
        assert url.hostname
        assert url.port
        return url.hostname, url.port

    def at_port(self, port: int) -> Place:
        """The same place, whose broker is reached at another port of this machine."""
        url = urlsplit(self.broker)
        user, at, _ = url.netloc.rpartition("@")
        return replace(self, broker=url._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl())

    def configure(self, app: Celery) -> None:
        """Let an app meet the others there."""
        prefix: dict[str, Any] = {"global_keyprefix": f"{self.name}:"}
        app.conf.update(
            broker_url=self.broker,
            broker_connection_retry_on_startup=True,
            broker_transport_options=(
                {**prefix, "visibility_timeout": self.visible} if self.broker.startswith("redis") else {}
            ),
            result_backend=self.results,
            result_backend_transport_options=prefix,
            task_queues=[Queue(self.name, Exchange(self.name))],
            task_default_queue=self.name,
            worker_enable_remote_control=False,
            control_exchange=self.name,
        )

    def is_overdue(self) -> bool:
        """Whether all that is not acknowledged would be given to a worker that starts now; later ones ask seldom."""
        if not self.broker.startswith("redis"):
            return True
        with redis.Redis.from_url(self.results) as client:
            return not client.zcount(f"{self.name}:unacked_index", time.time() - self.visible, "+inf")

    def delete(self) -> int:
        """Delete all that the broker and the results have of it; gives how many messages nobody had acknowledged."""
        with redis.Redis.from_url(self.results) as client:
            if self.broker.startswith("redis"):
                left = client.llen(f"{self.name}:{self.name}") + client.hlen(f"{self.name}:unacked")
            else:
                with kombu.Connection(self.broker) as connection:
                    left = connection.default_channel.queue_delete(self.name)
                    connection.default_channel.exchange_delete(self.name)
            for key in client.scan_iter(f"{self.name}:*", count=1000):
                client.delete(key)
        return int(left)


VARIABLES = ("WORKERS_BROKER", "WORKERS_RESULTS", "WORKERS_NAME", "WORKERS_VISIBLE")
