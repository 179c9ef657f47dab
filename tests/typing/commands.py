"""Commands know the types of what they call. Read, never run."""

from typing import Any, assert_type

from polydatum import Command, DataAccessLayer, DataManager, Service, command


class Reports(Service[Any]):
    @command
    def rebuild(self, year: int, *, draft: bool = False) -> str:
        return f"{year}{draft}"

    @command
    def rebuild_all(self) -> list[str]:
        return [self.rebuild(2026)]


class AppDAL(DataAccessLayer):
    reports = Reports()


dm = DataManager(AppDAL)
dal = dm.get_dal()

assert_type(dal.reports.rebuild(2026, draft=True), str)
assert_type(command(dal.reports.rebuild, 2026, draft=True), Command[str])
assert_type(command(dal.reports.rebuild_all), Command[list[str]])
assert_type(command(dal.reports.rebuild, 2026).run(), str)
assert_type(dm.command("reports.rebuild", 2026), Command[Any])

command(dal.reports.rebuild, "2026")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
command(dal.reports.rebuild, 2026, drafts=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
command(dal.reports.rebuild)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
command(dal.reports.rebuilt)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

with dm.context() as ctx:
    assert_type(ctx.enqueue(command(dal.reports.rebuild, 2026), reliable=True), str)
