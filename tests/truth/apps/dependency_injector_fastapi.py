"""Dependency Injector in FastAPI: a resource that closes with the function it is injected into."""

from typing import Annotated

from dependency_injector import containers, providers
from dependency_injector.wiring import Closing, Provide, inject
from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream


class Container(containers.DeclarativeContainer):
    session = providers.ContextLocalResource(bank.session_of_request)


app = make_app()
OfFunction = Annotated[Session, Depends(Closing[Provide[Container.session]])]


@app.post("/pay/{check}")
@inject
async def pay(check: str, session: OfFunction) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
@inject
async def names(session: OfFunction) -> StreamingResponse:
    return stream(bank.names(session))


container = Container()
container.wire(modules=[__name__])
