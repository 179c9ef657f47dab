"""Decorators keep signatures; hooks and middleware are checked where they can be. Read, never run."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, assert_type

from polydatum import Call, Context, DataManager, lazy

dm = DataManager()


@dm.resource
def db(context: Context) -> Iterator[int]:
    yield 1


@dm.context_middleware
def transaction(context: Context) -> Iterator[None]:
    yield


@dm.method_middleware
def timed(call: Call) -> Generator[None, Any, Any]:
    assert_type(call.path, str)
    assert_type(call.args, tuple[Any, ...])
    assert_type(call.kwargs, dict[str, Any])
    result = yield
    return result


@dm.method_middleware
def fast(call: Call, proceed: Callable[[Call], Any]) -> Any:
    return proceed(call)


@dm.method_middleware
async def fast_async(call: Call, proceed: Callable[[Call], Any]) -> Any:
    return await proceed(call)


with dm.context() as ctx:
    assert_type(db(ctx), Iterator[int])
    assert_type(transaction(ctx), Iterator[None])
    assert_type(timed(Call()), Generator[None, Any, Any])

    @ctx.before_commit
    def check() -> int:
        return 1

    @ctx.on_commit
    async def notify() -> str:
        return ""

    assert_type(check(), int)

    async def use() -> str:
        return await notify()

    ctx.on_rollback(print)
    ctx.on_rollback(lambda needed: None)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    ctx.set_rollback_only("a dry run")
    ctx.commit_on_error()

dm.resource(3)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def user() -> str:
    return "ann"


assert_type(lazy(user).evaluate(), str)
