"""Advanced Alchemy in Litestar: it commits if the status is below 300."""

from advanced_alchemy.extensions.litestar import SQLAlchemyPlugin, SQLAlchemySyncConfig
from litestar import Litestar, Response, get, post
from litestar.response import Stream
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_litestar import conflict, end, stream


@post("/pay/{check:str}", sync_to_thread=False)
def pay(check: str, db_session: Session) -> Response[str]:
    bank.pay(db_session, check)
    return end(check)


@get("/names", sync_to_thread=False)
def names(db_session: Session) -> Stream:
    return stream(bank.names(db_session))


config = SQLAlchemySyncConfig(
    engine_instance=bank.engine, session_maker=bank.Sessions, before_send_handler="autocommit"
)
app = Litestar([pay, names], plugins=[SQLAlchemyPlugin(config)], exception_handlers={bank.Conflict: conflict})
