"""Profiles, the public side of users, and following."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import with_expression

from conduit.services.context import ConduitService
from conduit.services.errors import NotFound
from conduit.services.schemas import Profile
from conduit.services.tables import FollowRow, UserRow


class ProfileService(ConduitService):
    """The users, as others see them."""

    def get(self, username: str) -> Profile:
        """The profile of a user.

        Raises:
            NotFound: if there is no such user.
        """
        return Profile.model_validate(self._find(username))

    def follow(self, username: str) -> Profile:
        """Make the viewer follow a user; no change if they already do.

        Raises:
            NotFound: if there is no such user.
        """
        viewer = self._require_viewer()
        self._add_once(FollowRow(follower_id=viewer.id, followed_id=self._find(username).id))
        return self.get(username)

    def unfollow(self, username: str) -> Profile:
        """Make the viewer unfollow a user; no change if they do not follow them.

        Raises:
            NotFound: if there is no such user.
        """
        viewer = self._require_viewer()
        user = self._find(username)
        self._ctx.db.execute(
            delete(FollowRow).where(FollowRow.follower_id == viewer.id, FollowRow.followed_id == user.id)
        )
        return self.get(username)

    def _find(self, username: str) -> UserRow:
        query = (
            select(UserRow)
            .where(UserRow.username == username)
            .options(with_expression(UserRow.following, self._is_followed()))
            .execution_options(populate_existing=True)
        )
        user = None if "\0" in username else self._ctx.db.scalar(query)  # PostgreSQL would refuse the query
        if user is None:
            raise NotFound(profile="not found")
        return user
