"""that-depends in FastAPI: a context resource, in the context of its middleware."""

from typing import Annotated

from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session
from that_depends import BaseContainer, providers
from that_depends.providers import DIContextMiddleware
from that_depends.providers.context_resources import ContextScopes

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream


class Container(BaseContainer):
    default_scope = ContextScopes.REQUEST
    session = providers.ContextResource(bank.session_of_request)


app = make_app()
app.add_middleware(DIContextMiddleware, Container, scope=ContextScopes.REQUEST)
OfRequest = Annotated[Session, Depends(Container.session)]


@app.post("/pay/{check}")
async def pay(check: str, session: OfRequest) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
async def names(session: OfRequest) -> StreamingResponse:
    return stream(bank.names(session))
