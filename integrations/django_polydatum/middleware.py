"""The Django middleware."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_polydatum.commit_errors import CommitErrors
from django_polydatum.configuration import Configuration
from django_polydatum.requests import CONTEXT, ERROR, STREAM_HINT, DjangoFacts, put_dal_on_requests
from polydatum import ConfigurationError, Context, ServiceError
from polydatum.adapting import AsyncStreamedBody, StreamedBody, answer_for

T = TypeVar("T")
GetResponse = Callable[[HttpRequest], Any]


class PolydatumMiddleware:
    """Gives every request a Context of its own, which ends before the first byte of the answer.

    ``MIDDLEWARE = [..., "django_polydatum.PolydatumMiddleware"]`` after AuthenticationMiddleware, and
    ``POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}``. Works under WSGI and ASGI, with sync and async views.

    ``request.dal`` is the DAL. ``ctx.meta`` has ``request``, ``user`` (``request.user``), ``params`` and ``request_id``.

    What becomes of a request:

    * **Answered below 400**: commits, then the answer goes out. Template responses are rendered before.
    * **Answered with 400 or more**, by the view or by Django's own error page: rolls back, then the answer goes out
      (``POLYDATUM["ROLLBACK_ON"]``, ``DataManager(rollback_on=...)`` and ``ctx.commit_on_error()`` may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, the answer goes out as it is.
    * **The commit fails**: the answer is dropped, the session is again what the client has sent, and the error raised;
      Django logs it and answers 500, unless ``POLYDATUM["ON_COMMIT_ERROR"]`` has an answer of 400 or more.
    * **A ServiceError with 400 <= code < 500 escapes from the view**: rolls back, and is answered with that status and its
      text, unless the ``process_exception`` of a middleware further in has answered it.
    * **Any other exception escapes**: Django makes it a 500, or what else it makes of it; rolls back, also if a context
      middleware suppressed it.
    * **Cancelled**, because the client left an async view: rolls back.
    * **A context middleware fails to set up**: the view is not called; Django answers 500.

    A streamed body runs when the context has ended: see `stream_context`. Under ASGI, what a sync view opened in its thread
    is closed in that thread.

    Args:
        get_response: the next layer.

    Raises:
        ImproperlyConfigured: when the application starts, if the setting names no DataManager, or cannot be used.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        try:
            configuration = Configuration()
        except ConfigurationError as error:
            raise ImproperlyConfigured(str(error)) from error
        self._manager = configuration.manager
        self._new_context = configuration.new_context
        self._commit_errors = CommitErrors(configuration.on_commit_error)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        put_dal_on_requests()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve a request; awaitable if the next layer is."""
        if self._is_async:
            return self._aserve(request)
        held = request.__dict__  # looked up once for all that is kept there: each look costs every request
        if CONTEXT in held and self._is_served(held[CONTEXT]):
            return self.get_response(request)  # type: ignore[no-any-return]
        facts = DjangoFacts(request)
        context = held[CONTEXT] = self._new_context(facts)
        try:
            try:
                context.open()
                response = self.get_response(request)
            except BaseException as error:
                context.close(error, keep_current=True, late_hint=STREAM_HINT)
                raise
            status = response.status_code
            cause = held.pop(ERROR, None)  # decides nothing: it tells `rollback_on` and the middleware why
            if status < 400:
                cause = None
            try:
                context.close(cause, status=status, keep_current=True, late_hint=STREAM_HINT)
            except BaseException as failure:
                _discard(request, response)
                response = self._commit_errors.answer(request, failure, cause)
                if response is None:
                    raise
            finally:
                del cause  # its traceback refers to this frame
        except ServiceError as error:
            response = _answer_or_raise(request, error, context)
        except BaseException:
            context.leave()
            raise
        if response.streaming:
            _run_outside(response, context)
        context.leave()
        facts.end()
        return response  # type: ignore[no-any-return]

    async def _aserve(self, request: HttpRequest) -> HttpResponseBase:
        held = request.__dict__
        if CONTEXT in held and self._is_served(held[CONTEXT]):
            return await self.get_response(request)  # type: ignore[no-any-return]
        facts = DjangoFacts(request)
        context = held[CONTEXT] = self._new_context(facts)
        try:
            try:
                await context.aopen()
                response = await self.get_response(request)
            except BaseException as error:
                await context.aclose(error, keep_current=True, late_hint=STREAM_HINT, in_thread=_in_view_thread)
                raise
            status = response.status_code
            cause = held.pop(ERROR, None)  # decides nothing: it tells `rollback_on` and the middleware why
            if status < 400:
                cause = None
            try:
                await context.aclose(
                    cause, status=status, keep_current=True, late_hint=STREAM_HINT, in_thread=_in_view_thread
                )
            except BaseException as failure:
                _discard(request, response)
                response = await self._commit_errors.aanswer(request, failure, cause)
                if response is None:
                    raise
            finally:
                del cause  # its traceback refers to this frame
        except ServiceError as error:
            response = _answer_or_raise(request, error, context)
        except BaseException:
            context.leave()
            raise
        if response.streaming:
            _run_outside(response, context)
        context.leave()
        facts.end()
        return response  # type: ignore[no-any-return]

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django for what a view raises: answers a ServiceError, remembers every other."""
        setattr(request, ERROR, exception)
        return _answer(request, exception)

    def _is_served(self, context: Context) -> bool:
        """Whether another PolydatumMiddleware further out has given the request this context."""
        return context.state == "open" and context.data_manager is self._manager


async def _in_view_thread(job: Callable[[], T]) -> T:
    """Run a function in the thread that Django runs the sync views of this request in."""
    return await sync_to_async(job, thread_sensitive=True)()


def _discard(request: HttpRequest, response: Any) -> None:
    """Keep nothing of an answer that nobody will send, nor of what its view has written into the session."""
    for close in response._resource_closers:  # its own ``close`` would tell Django that the request is over
        with contextlib.suppress(Exception):  # the failure is what has to be told
            close()
    session = getattr(request, "session", None)
    if isinstance(session, SessionBase):
        request.session = type(session)(request.COOKIES.get(settings.SESSION_COOKIE_NAME))


def _answer(request: HttpRequest, error: BaseException) -> HttpResponse | None:
    answer = answer_for(error, request.headers.get("Accept"))
    return None if answer is None else HttpResponse(answer.body, status=answer.status, headers=answer.headers)


def _answer_or_raise(request: HttpRequest, error: ServiceError, context: Context) -> HttpResponse:
    """The answer to a ServiceError that the context itself raised."""
    response = _answer(request, error)
    if response is None:
        context.leave()
        raise error
    return response


def _run_outside(response: Any, context: Context) -> None:
    """Have a streamed body run with the closed context; a file's content is no code that could touch it."""
    if isinstance(response, FileResponse):
        return
    body = response._iterator  # `streaming_content` refers back to the response: a cycle
    if response.is_async:
        response._iterator = AsyncStreamedBody(body, context)
        return
    streamed = response._iterator = StreamedBody(body, context)
    close = getattr(body, "close", None)
    closers = response._resource_closers  # where Django has put it already
    response._resource_closers = [streamed.close if closer == close else closer for closer in closers]
