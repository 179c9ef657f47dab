"""Litestar's own dependencies: a generator that commits after its ``yield``."""

from litestar import Litestar, Response, get, post
from litestar.di import Provide
from litestar.response import Stream
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_litestar import conflict, end, stream


@post("/pay/{check:str}", sync_to_thread=False)
def pay(check: str, session: Session) -> Response[str]:
    bank.pay(session, check)
    return end(check)


@get("/names", sync_to_thread=False)
def names(session: Session) -> Stream:
    return stream(bank.names(session))


app = Litestar(
    [pay, names],
    dependencies={"session": Provide(bank.session_of_request, sync_to_thread=False)},
    exception_handlers={bank.Conflict: conflict},
)
