"""dishka in FastAPI."""

from dishka import make_async_container
from dishka.integrations.fastapi import DishkaRoute, FromDishka, setup_dishka
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.dishka_session import SessionProvider
from tests.truth.apps.web_fastapi import end, make_app, stream

app = make_app()
app.router.route_class = DishkaRoute


@app.post("/pay/{check}")
async def pay(check: str, session: FromDishka[Session]) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
async def names(session: FromDishka[Session]) -> StreamingResponse:
    return stream(bank.names(session))


setup_dishka(make_async_container(SessionProvider()), app)
