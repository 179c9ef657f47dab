"""Advanced Alchemy in FastAPI: it commits if the status is below 300."""

from typing import Annotated

from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, SQLAlchemySyncConfig
from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream

app = make_app()
config = SQLAlchemySyncConfig(engine_instance=bank.engine, session_maker=bank.Sessions, commit_mode="autocommit")
alchemy = AdvancedAlchemy(config=config, app=app)
OfRequest = Annotated[Session, Depends(alchemy.provide_session())]


@app.post("/pay/{check}")
async def pay(check: str, session: OfRequest) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
async def names(session: OfRequest) -> StreamingResponse:
    return stream(bank.names(session))
