"""What type checkers see of flask_polydatum. Read by mypy and pyright, never run."""

from typing import Any, assert_type

import flask

import flask_polydatum
from flask_polydatum import FlaskPolydatum, stream_context, with_context
from polydatum import Context, DataAccessLayer, DataManager, DynamicDAL, Service


class PhotoService(Service):
    def add(self, file: str) -> int:
        return len(file)


class ItemService(Service):
    photos = PhotoService()

    def get_item(self, id: int) -> tuple[int, str] | None:
        return None


class ShopDAL(DataAccessLayer):
    items = ItemService()


dm = DataManager(ShopDAL)
polydatum = FlaskPolydatum(dm)
assert_type(polydatum, FlaskPolydatum[ShopDAL])
assert_type(polydatum.dal, ShopDAL)
assert_type(polydatum.dal.items.get_item(1), tuple[int, str] | None)
assert_type(polydatum.dal.items.photos.add("tea.jpg"), int)
polydatum.dal.items.get_itm(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
polydatum.dal.items.get_item("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

by_path = FlaskPolydatum[ShopDAL]("shop.data.dm")
assert_type(by_path.dal.items, ItemService)

untyped = FlaskPolydatum()
assert_type(untyped.dal, DynamicDAL)
untyped.dal.anything.goes()

assert_type(flask_polydatum.dal, Any)


def rule(exc: BaseException | None, status: int | None) -> bool:
    return exc is not None


def busy(request: flask.Request, error: Exception) -> tuple[str, int] | None:
    return ("try again", 503) if isinstance(error, TimeoutError) else None


def retry_page(request: flask.Request, error: Exception) -> flask.Response:
    return flask.Response("try again", 503)


async def later(request: flask.Request, error: Exception) -> flask.Response:
    return flask.Response("try again", 503)


def success(request: flask.Request) -> str:
    return ""


app = flask.Flask("shop")
FlaskPolydatum(dm, rollback_on=rule, teardown_timeout=1, on_commit_error=busy).init_app(app)
FlaskPolydatum(dm, rollback_on="shop.rule", on_commit_error=retry_page).init_app(app)
FlaskPolydatum(dm, on_commit_error=later).init_app(app)
flask_polydatum.init_app(app, dm, rollback_on=rule, on_commit_error="shop.busy")
FlaskPolydatum(dm, on_commit_error=success)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlaskPolydatum(dm, teardown_timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@with_context
def import_items(path: str, *, dry_run: bool = False) -> int:
    assert_type(polydatum.dal.items, ItemService)
    return 1


assert_type(import_items("items.csv", dry_run=True), int)
import_items(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def contexts() -> None:
    with flask_polydatum.context({"user": "ann"}) as ctx:
        assert_type(ctx, Context)
    with stream_context(flask.request) as stream:
        assert_type(stream, Context)
