"""Which commands a context may send to Redis or Valkey, and which it may queue."""

from __future__ import annotations

from typing import Any

from polydatum.errors import ContextClosedError, ReadOnlyError, ResourceError, shown

READS = frozenset(
    # The commands that the server flags as "readonly".
    """
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EVAL_RO EVALSHA_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH GEOPOS
    GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET
    HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS KEYS LCS LINDEX LLEN LOLWUT LPOS LRANGE MGET PEXPIRETIME
    PFCOUNT PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN
    STRLEN SUBSTR SUNION TOUCH TTL TYPE XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD
    ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE
    ZREVRANK ZSCAN ZSCORE ZUNION VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANDMEMBER VSIM
    BF.CARD BF.EXISTS BF.INFO BF.MEXISTS CF.COUNT CF.EXISTS CF.INFO CF.MEXISTS CMS.INFO CMS.QUERY FT.AGGREGATE FT.INFO
    FT.SEARCH JSON.ARRINDEX JSON.ARRLEN JSON.GET JSON.MGET JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.STRLEN JSON.TYPE
    TDIGEST.CDF TDIGEST.INFO TDIGEST.MAX TDIGEST.MIN TDIGEST.QUANTILE TDIGEST.RANK TOPK.INFO TOPK.LIST TOPK.QUERY
    TS.GET TS.INFO TS.MGET TS.MRANGE TS.MREVRANGE TS.QUERYINDEX TS.RANGE TS.REVRANGE
    """.split()  # noqa: SIM905
) | {
    "MEMORY USAGE",
    "OBJECT ENCODING",
    "OBJECT FREQ",
    "OBJECT IDLETIME",
    "OBJECT REFCOUNT",
    "XINFO CONSUMERS",
    "XINFO GROUPS",
    "XINFO STREAM",
}
TELLS = {
    "CLIENT GETNAME",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT LIST",
    "CONFIG GET",
    "DISCARD",
    "ECHO",
    "INFO",
    "LASTSAVE",
    "PING",
    "ROLE",
    "SCRIPT EXISTS",
    "TIME",
    "UNWATCH",
    "WATCH",
}
"""Commands about the server, the connection and a pipeline's transaction; they touch no data."""
HARMLESS = READS | TELLS
"""Any other command counts as a write, including EVAL, SORT, PUBLISH, and those of later servers."""


class ImmediateWriteError(ResourceError):
    """A write would have been sent to Redis before the commit; a rollback could not undo it."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(name, what)
        self.name = name
        self.what = what

    def __str__(self) -> str:
        return (
            f"resource {shown(self.name)} refuses {self.what}: a rollback could not undo it; "
            "queue it with .after_commit, or declare the resource non-transactional: RedisBackend(url, immediate=True)"
        )


class Admission:
    """Decides which commands one context may send or queue.

    Attributes:
        over: whether the queue was finally sent or dropped.
    """

    def __init__(self, name: str, *, read_only: bool, immediate: bool) -> None:
        self.name = name
        self.read_only = read_only
        self.immediate = immediate
        self.over = False

    def to_send(self, args: tuple[Any, ...]) -> None:
        """Check a command that is sent at once, or in a pipeline that the service executes."""
        words = _words(args)
        if words[0] not in HARMLESS and " ".join([*words, *map(_text, args[1:2])][:2]) not in HARMLESS:
            self.to_write(shown(words[0]))

    def to_write(self, what: str) -> None:
        """Check a write that is sent at once."""
        if self.read_only:
            raise ReadOnlyError(self.name, what)
        if not self.immediate:
            raise ImmediateWriteError(self.name, what)

    def to_queue(self, args: tuple[Any, ...]) -> None:
        """Check a command that is queued for after the commit."""
        command = _words(args)[0]
        if self.over:
            raise ContextClosedError(f"after_commit of resource {shown(self.name)}")
        if self.read_only:
            raise ReadOnlyError(self.name, shown(command))
        if command in ("WATCH", "DISCARD"):
            raise ResourceError(f"after_commit of resource {shown(self.name)} refuses {command}: use pipeline()")


def _words(args: tuple[Any, ...]) -> list[str]:
    """The words of the first argument: the command's name, maybe with a subcommand; redis-py splits it, too."""
    return _text(args[0]).split() or [""]


def _text(part: Any) -> str:
    return (part.decode("latin-1") if isinstance(part, bytes) else str(part)).upper()


# --- Clients and pipelines that check every command -------------------------------------------------------------------


class Judged:
    """A client or pipeline, sync or async, that checks each command before it is sent."""

    _admission: Admission

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Check and execute a command: all of redis-py's command methods call this one."""
        self._admission.to_send(args)
        judged: Any = super()
        return judged.execute_command(*args, **options)


class JudgedClient(Judged):
    """A client, with every way around `execute_command` closed."""

    after_commit: Any
    _pipeline_class: type
    connection_pool: Any
    response_callbacks: Any

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """A pipeline that the service executes itself; its commands are checked like any other."""
        made = self._pipeline_class(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made._admission = self._admission
        return made

    def client(self) -> Any:
        """A client with a connection of its own; its commands are checked like any other."""
        judged: Any = super()
        made = judged.client()
        vars(made).update(_admission=self._admission, after_commit=self.after_commit)
        return made

    def json(self, *args: Any, **options: Any) -> Any:
        """The commands of RedisJSON."""
        judged: Any = super()
        return self._module(judged.json(*args, **options))

    def ft(self, *args: Any, **options: Any) -> Any:
        """The commands of the search module."""
        judged: Any = super()
        return self._module(judged.ft(*args, **options))

    def ts(self, *args: Any, **options: Any) -> Any:
        """The commands of the time series module."""
        judged: Any = super()
        return self._module(judged.ts(*args, **options))

    def _module(self, module: Any) -> Any:
        """The commands of a server module; counts its pipelines as writes, as they would bypass the check."""
        make = module.pipeline

        def pipeline(*args: Any, **options: Any) -> Any:
            self._admission.to_write(f"{type(module).__name__}.pipeline()")
            return make(*args, **options)

        module.pipeline = pipeline
        return module


class Queued:
    """The pipeline behind ``after_commit``, sync or async: it only queues, until the context sends or drops it."""

    _admission: Admission
    command_stack: list[Any]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Queue a command."""
        self._admission.to_queue(args)
        self.command_stack.append((args, options))
        return self

    def execute(self, raise_on_error: bool = True) -> Any:
        """Refused: only the context sends the queue."""
        raise ResourceError("after_commit is executed by the context after its commit; do not call execute()")

    def savepoint(self) -> Mark:
        """The mark to which ``ctx.nested()`` truncates the queue on rollback."""
        return Mark(self)


class Mark:
    """A position in the queue to truncate it to."""

    def __init__(self, queue: Queued) -> None:
        self._queue = queue
        self._length = len(queue.command_stack)

    def release(self) -> None:
        """Keep the commands queued since."""

    def rollback(self) -> None:
        """Drop the commands queued since."""
        del self._queue.command_stack[self._length :]
