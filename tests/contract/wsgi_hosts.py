"""WSGI applications as hosts of the contract: bare, Werkzeug, Bottle, Falcon, Pyramid."""

from __future__ import annotations

import warnings
from http import HTTPStatus
from typing import Any, ClassVar

from polydatum.testing import Answer, Call, Host, Reply
from polydatum.testing.wire import over_wsgi

FORMS = {"forms": "in WSGI a body is read once, and that is the application's business"}
HANDLERS = {"handlers": "there are no error handlers without a framework"}


class WsgiHost(Host):
    """What all of them have in common."""

    adapter = "wsgi_polydatum"
    fix = "PolydatumWSGI"

    def application(self, call: Call) -> Any:
        from wsgi_polydatum import PolydatumWSGI

        app = self.bare(call)
        for _ in range(call.installed if call.manager is not None else 0):
            app = PolydatumWSGI(
                app, call.manager, on_commit_error=None if call.on_commit_error is None else commit_error(call)
            )
        return app

    def bare(self, call: Call) -> Any:
        raise NotImplementedError

    def request(self, app: Any, call: Call) -> Answer:
        return over_wsgi(app, call)


def commit_error(call: Call) -> Any:
    """What answers a failed commit, as an application of its own."""

    def handle(environ: Any, error: Exception) -> Any:
        assert call.on_commit_error is not None
        reply: Any = call.on_commit_error(BareRequest(environ), error)

        def answer(environ: Any, start_response: Any) -> Any:
            start_response(status_line(reply.status), [*reply.headers.items()])
            return [reply.body]

        return answer

    return handle


def status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


class BareRequest:
    """All that an application without a framework has of a request."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ

    @property
    def dal(self) -> Any:
        return self.environ["polydatum.dal"]


class BareWsgiHost(WsgiHost):
    """An application without a framework: one function."""

    name = "wsgi"
    absent: ClassVar = {**FORMS, **HANDLERS, "request": "without a framework there is no request to ask"}

    def bare(self, call: Call) -> Any:
        def app(environ: Any, start_response: Any) -> Any:
            environ["wsgiorg.routing_args"] = ((), {"id": environ["PATH_INFO"].rpartition("/")[2]})
            reply = call.view(BareRequest(environ))
            start_response(status_line(reply.status), [*reply.headers.items()])
            return [reply.body] if isinstance(reply.body, bytes) else reply.body

        return app


class WerkzeugHost(WsgiHost):
    """Werkzeug's own requests, responses and routing."""

    name = "werkzeug"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = {
        **FORMS,
        **HANDLERS,
        "causes": "Werkzeug's exceptions are answers themselves, made where no middleware can see them",
    }

    def abort(self, status: int) -> BaseException:
        from werkzeug.exceptions import default_exceptions

        return default_exceptions[status]("no")

    def bare(self, call: Call) -> Any:
        import werkzeug
        from werkzeug.exceptions import HTTPException
        from werkzeug.routing import Map, Rule

        from wsgi_polydatum.werkzeug import RequestMixin

        class Request(RequestMixin[Any], werkzeug.Request):
            pass

        rules = Map([Rule("/things/<int:id>", methods=["GET", "POST"])])

        @Request.application
        def app(request: Any) -> Any:
            try:
                _, found = rules.bind_to_environ(request.environ).match()
                request.environ["wsgiorg.routing_args"] = ((), found)
                reply = call.view(request)
            except HTTPException as error:
                return error
            return werkzeug.Response(reply.body, reply.status, reply.headers)

        return app


class BottleHost(WsgiHost):
    """Bottle."""

    name = "bottle"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = {
        **FORMS,
        "handlers": "Bottle's error handlers are for statuses",
        "request": "Bottle's requests raise AttributeError for whatever is not in their environ",
        "causes": "Bottle makes exceptions into answers before a middleware could see them",
    }

    def abort(self, status: int) -> BaseException:
        import bottle

        return bottle.HTTPError(status, "no")

    def bare(self, call: Call) -> Any:
        import bottle

        app = bottle.Bottle()
        app.config["catchall"] = False

        def view(id: int) -> Any:
            reply = call.view(BareRequest(bottle.request.environ))
            return bottle.HTTPResponse(reply.body, reply.status, reply.headers)

        app.route("/things/<id:int>", ["GET", "POST"], view)
        return app


class FalconHost(WsgiHost):
    """Falcon."""

    name = "falcon"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = {
        **FORMS,
        "request": "Falcon's requests have an env, and no class of the user's",
        "causes": "Falcon makes its own exceptions into answers before a middleware could see them",
    }

    def abort(self, status: int) -> BaseException:
        import falcon

        return falcon.HTTPError(status, title="no")

    def bare(self, call: Call) -> Any:
        import falcon

        class Thing:
            def on_get(self, req: Any, resp: Any, id: str) -> None:
                req.env["wsgiorg.routing_args"] = ((), {"id": id})
                falcon_reply(resp, call.view(BareRequest(req.env)))

            on_post = on_head = on_get

        app = falcon.App()
        for kind, handler in {Exception: falcon_raise, **call.handlers}.items():
            app.add_error_handler(kind, handler if handler is falcon_raise else falcon_handler(handler))
        app.add_error_handler(falcon.HTTPError, app._http_error_handler)
        app.add_route("/things/{id}", Thing())
        return app


def falcon_raise(req: Any, resp: Any, error: Exception, params: Any) -> None:
    raise error  # Falcon's own handler makes it into a 500, and tells nobody but wsgi.errors


def falcon_handler(handler: Any) -> Any:
    def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
        falcon_reply(resp, handler(BareRequest(req.env), error))

    return handle


def falcon_reply(resp: Any, reply: Reply) -> None:
    resp.status = reply.status
    for name, value in reply.headers.items():
        if name == "Set-Cookie":
            resp.append_header(name, value)
        else:
            resp.set_header(name, value)
    if isinstance(reply.body, bytes):
        resp.data = reply.body
    else:
        resp.stream = reply.body


with warnings.catch_warnings(action="ignore"):  # its WebOb imports the deprecated module cgi
    import pyramid.config
    import pyramid.httpexceptions
    import pyramid.response


class PyramidHost(WsgiHost):
    """Pyramid."""

    name = "pyramid"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = {
        **FORMS,
        "causes": "Pyramid's exceptions are answers themselves, made by its own exception view",
    }

    def abort(self, status: int) -> BaseException:
        return pyramid.httpexceptions.exception_response(status, detail="no")

    def bare(self, call: Call) -> Any:
        from pyramid.request import Request

        from wsgi_polydatum.werkzeug import RequestMixin

        class DalRequest(RequestMixin[Any], Request):
            pass

        def view(context: Any, request: Any) -> Any:
            request.environ["wsgiorg.routing_args"] = ((), request.matchdict)
            return pyramid_response(call.view(request))

        with pyramid.config.Configurator(request_factory=DalRequest) as config:
            config.add_route("thing", "/things/{id}")
            config.add_view(view, route_name="thing")
            for kind, handler in call.handlers.items():
                config.add_exception_view(pyramid_handler(handler), context=kind)
            return config.make_wsgi_app()


def pyramid_handler(handler: Any) -> Any:
    return lambda error, request: pyramid_response(handler(request, error))


def pyramid_response(reply: Reply) -> Any:
    body = {"body": reply.body} if isinstance(reply.body, bytes) else {"app_iter": reply.body}
    return pyramid.response.Response(status=reply.status, headerlist=[*reply.headers.items()], **body)
