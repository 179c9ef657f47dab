"""``DataManager()``: a DAL of its own type, whose services no type checker knows. Read, never run."""

from typing import Any, assert_type

from polydatum import Context, DataAccessLayer, DataManager, DynamicDAL, Service
from polydatum.dal import DataManager as OldDataManager

dm = DataManager()
assert_type(dm.get_dal(), DynamicDAL)


class ItemService(Service):
    def get_item(self, id: int) -> str:
        return self._data_manager.db.execute(id)  # type: ignore[no-any-return]


class PhotoService(Service): ...


dm.register_services(items=ItemService().register_services(photos=PhotoService()))
assert_type(ItemService().register_services(photos=PhotoService()), ItemService)
assert_type(dm.get_dal().register_services(photos=PhotoService()), DynamicDAL)
dm.register_services(items=object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

with dm.dal() as dal:
    assert_type(dal, DynamicDAL)
    assert_type(dal.items, Any)
    assert_type(dal.items.photos.add(1), Any)

with dm.context(meta={"user": "ann"}) as ctx:
    assert_type(ctx.db, Any)
    assert_type(ctx.dal, Any)
    assert_type(ctx.dal.items.get_item(1), Any)
    assert_type(ctx.meta.user, Any)
    assert_type(ctx.meta["user"], Any)

assert_type(dm.db, Any)


class StaticDAL(DataAccessLayer):
    items = ItemService()


# A DAL that is not the dynamic one has the services it declares, and no others.
StaticDAL().photos  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


class OwnContext(Context):
    tenant: str


own = DataManager(context_class=OwnContext)
assert_type(own, DataManager[DynamicDAL, OwnContext])
with own.context() as typed:
    assert_type(typed.tenant, str)

assert_type(OldDataManager().get_dal(), DynamicDAL)


class OwnManager(DataManager):
    """A subclass needs no type arguments, and neither does an annotation."""


assert_type(OwnManager().get_dal(), DynamicDAL)
static: DataManager[StaticDAL] = DataManager(StaticDAL)
assert_type(static.get_dal().items.get_item(1), str)

DataManager(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
DataManager(context_class=int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
