"""No framework at all: a view called in a context, as the smallest adapter would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from polydatum import Context
from polydatum.adapting import RequestDal, RequestFacts, answer_for
from polydatum.testing import Answer, Call, Host, Reply


class PlainRequest:
    """All that such a view is given."""

    context: Context | None = None

    def __init__(self, call: Call) -> None:
        self.call = call


class PlainFacts(RequestFacts[PlainRequest]):
    def find_params(self, request: PlainRequest) -> Iterable[tuple[str, object]]:
        yield from parse_qsl(request.call.query, keep_blank_values=True)
        yield "id", request.call.path.rpartition("/")[2]

    def find_header(self, request: PlainRequest, name: str) -> str | None:
        found = [value for key, value in request.call.header_pairs if key.lower() == name]
        return ",".join(found) if found else None


def keep(request: PlainRequest, context: Context) -> None:
    request.context = context


STREAM_HINT = "open a context of its own: plain_hosts.stream_context(request)"
request_dal = RequestDal(
    lambda request: request.context, keep, PlainFacts, fix="init_app: call it through PlainHost", stream=STREAM_HINT
)
request_dal.put_on(PlainRequest)


class PlainHost(Host):
    """A function, or a coroutine function, that a context is opened around."""

    adapter = "plain_hosts"
    fix = "PlainHost"
    absent: ClassVar = {
        "handlers": "there are no error handlers without a framework",
        "forms": "there are no forms without a framework",
        "twice": "there is nothing to install",
        "on_commit_error": "there are no options",
    }

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.name = "plain-async" if is_async else "plain"

    def application(self, call: Call) -> Any:
        return aserved if self.is_async else served

    def request(self, app: Any, call: Call) -> Answer:
        answer = Answer()
        try:
            if self.is_async:
                asyncio.run(app(call, answer))
            else:
                app(call, answer)
        except BaseException as error:
            answer.raised = error
            answer.status = answer.status or 500
        return answer


def served(call: Call, answer: Answer) -> None:
    request = PlainRequest(call)
    if call.manager is None:
        send(answer, call, call.view(request))
        return
    context = request_dal.attach(request, call.manager)
    try:
        try:
            context.open()
            reply = call.view(request)
        except BaseException as error:
            context.close(error)
            raise
        context.close(status=reply.status, keep_current=True, late_hint=STREAM_HINT)
        send(answer, call, reply)
    except BaseException as error:
        send_error(answer, call, error)
    finally:
        context.leave()


async def aserved(call: Call, answer: Answer) -> None:
    request = PlainRequest(call)
    if call.manager is None:
        send(answer, call, call.view(request))
        return
    context = request_dal.attach(request, call.manager)
    try:
        try:
            await context.aopen()
            reply = call.view(request)
        except BaseException as error:
            await context.aclose(error)
            raise
        await context.aclose(status=reply.status, keep_current=True, late_hint=STREAM_HINT)
        send(answer, call, reply)
    except BaseException as error:
        send_error(answer, call, error)
    finally:
        context.leave()


def send(answer: Answer, call: Call, reply: Reply) -> None:
    answer.status = reply.status
    answer.headers = [(name.lower(), value) for name, value in reply.headers.items()]
    call.log.append(f"start {reply.status}")
    answer.body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)


def send_error(answer: Answer, call: Call, error: BaseException) -> None:
    """Answer a ServiceError of the client's; everything else is for the caller."""
    found = answer_for(error, PlainFacts(PlainRequest(call)).find_header(PlainRequest(call), "accept"))
    if found is None:
        raise error
    send(answer, call, Reply(found.status, found.body, found.headers))
