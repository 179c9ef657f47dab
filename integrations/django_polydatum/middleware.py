"""The Django middleware."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_polydatum.commit_errors import CommitErrors
from django_polydatum.configuration import Configuration
from django_polydatum.requests import CONTEXT, ERROR, FAILED_HINT, STREAM_HINT, DjangoFacts, put_dal_on_requests
from django_polydatum.threads import in_view_thread
from polydatum import ConfigurationError, Context, ServiceError
from polydatum.adapting import AsyncStreamedBody, StreamedBody, answer_for, check_head

GetResponse = Callable[[HttpRequest], Any]


class PolydatumMiddleware:
    """Gives every request a Context of its own, which ends before the first byte of the answer.

    ``MIDDLEWARE = [..., "django_polydatum.PolydatumMiddleware"]`` after AuthenticationMiddleware, and
    ``POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}``. Works under WSGI and ASGI, with sync and async views.

    ``request.dal`` is the DAL. ``ctx.meta`` has ``request``, ``user`` (``request.user``), ``params`` and ``request_id``.

    What happens to a request:

    * **Answered below 400**: commits, then sends the answer. Template responses are rendered before.
    * **Answered with 400 or more**, by the view or by Django's own error page: rolls back, then sends the answer
      (``POLYDATUM["ROLLBACK_ON"]``, ``DataManager(rollback_on=...)`` and ``ctx.commit_on_error()`` may decide
      otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, then sends the answer unchanged.
    * **The commit fails**: the answer is dropped, the session is reset to what the client sent, and the error is
      raised; Django logs it and answers 500, unless ``POLYDATUM["ON_COMMIT_ERROR"]`` returns an answer of 400 or more.
    * **The answer cannot be sent**, because of its reason phrase, a header or a cookie: rolls back, and raises
      `UnsendableAnswerError`.
    * **A ServiceError with 400 <= code < 500 escapes from the view**: rolls back, and answers with that status and the
      error's text, unless the ``process_exception`` of an inner middleware has answered it.
    * **Any other exception escapes**: Django turns it into a 500, or whatever it maps it to; rolls back, even if a
      context middleware suppressed it.
    * **Cancelled**, because the client disconnected from an async view: rolls back.
    * **A context middleware fails to set up**: the view is not called; Django answers 500.

    A streamed body runs after the context has ended: see `stream_context`. Under ASGI, what a sync view opened in its
    thread is closed in that thread.

    Args:
        get_response: the next layer.

    Raises:
        ImproperlyConfigured: when the application starts, if the setting names no DataManager or is invalid.
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
        held = request.__dict__  # hot path: looked up once
        if CONTEXT in held and self._is_served(held[CONTEXT]):
            return self.get_response(request)  # type: ignore[no-any-return]
        facts = DjangoFacts(request)
        context = held[CONTEXT] = self._new_context(facts)
        try:
            try:
                context.open()
                response = self.get_response(request)
                _check_sendable(request, response)
            except BaseException as error:
                context.close(error, keep_current=True, late_hint=FAILED_HINT)
                raise
            status = response.status_code
            cause = held.pop(ERROR, None)  # the status decides; this only tells `rollback_on` and the middleware why
            if status < 400:
                cause = None
            try:
                context.close(cause, status=status, keep_current=True, late_hint=STREAM_HINT)
            except BaseException as failure:
                if context.state == "closed":  # pragma: no branch - an interrupt may have cut the close off
                    context.close(keep_current=True, late_hint=FAILED_HINT)  # only the hint is new
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
        context.close_in(in_view_thread)
        try:
            try:
                await context.aopen()
                response = await self.get_response(request)
                _check_sendable(request, response)
            except BaseException as error:
                await context.aclose(error, keep_current=True, late_hint=FAILED_HINT)
                raise
            status = response.status_code
            cause = held.pop(ERROR, None)  # the status decides; this only tells `rollback_on` and the middleware why
            if status < 400:
                cause = None
            try:
                await context.aclose(cause, status=status, keep_current=True, late_hint=STREAM_HINT)
            except BaseException as failure:
                if context.state == "closed":  # pragma: no branch - an interrupt may have cut the close off
                    await context.aclose(keep_current=True, late_hint=FAILED_HINT)  # only the hint is new
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
        """Called by Django for an exception of a view: records it, and answers a ServiceError."""
        setattr(request, ERROR, exception)
        return _answer(request, exception)

    def _is_served(self, context: Context) -> bool:
        """Whether an outer PolydatumMiddleware has given the request this context."""
        return context.state == "open" and context.data_manager is self._manager


def _check_sendable(request: HttpRequest, response: HttpResponseBase) -> None:
    headers: Any = response.headers.items()
    try:
        if response.cookies:
            headers = [*headers, *(("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values())]
        check_head(f"{response.status_code} {response.reason_phrase}", headers)
    except Exception:
        _discard(request, response)
        raise


def _discard(request: HttpRequest, response: Any) -> None:
    """Drop an answer that will not be sent, and the view's changes to the session."""
    for close in response._resource_closers:  # not response.close(), which would signal the end of the request
        with contextlib.suppress(Exception):  # only the commit's failure is reported
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
    """Make a streamed body run with the closed context; a file runs no code that could use it."""
    if isinstance(response, FileResponse):
        return
    body = response._iterator  # not `streaming_content`, which refers back to the response: a cycle
    if response.is_async:
        response._iterator = AsyncStreamedBody(body, context)
        return
    streamed = response._iterator = StreamedBody(body, context)
    close = getattr(body, "close", None)
    closers = response._resource_closers  # Django has already added the body's close()
    response._resource_closers = [streamed.close if closer == close else closer for closer in closers]
