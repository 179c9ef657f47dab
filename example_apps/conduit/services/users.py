"""Users: their accounts, and how they authenticate."""

from __future__ import annotations

from argon2.exceptions import VerifyMismatchError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from conduit.services.context import ConduitService
from conduit.services.errors import Invalid, NotFound, Unauthorized
from conduit.services.schemas import LoginUser, NewUser, UpdateUser, User
from conduit.services.tables import UserRow


class UserService(ConduitService):
    """Accounts and logins."""

    def authenticate(self, authorization: str | None) -> UserRow | None:
        """The user of an Authorization header; None without a header. In all hosts, reading ``meta.user`` calls this.

        Raises:
            Unauthorized: if the token is invalid, or has expired.
        """
        if authorization is None:
            return None
        user = self.load(self._ctx.tokens.user_id(authorization))
        if user is None:
            raise Unauthorized(token="is not valid")
        return user

    def find(self, username: str) -> UserRow:
        """The user of a name, for a host that identifies its user by name.

        Raises:
            NotFound: if there is no such user.
        """
        user = self._ctx.db.scalar(select(UserRow).where(UserRow.username == username))
        if user is None:
            raise NotFound(user="not found")
        return user

    def load(self, user_id: int) -> UserRow | None:
        """The user of an id, for example that of the sender of a command."""
        return self._ctx.db.get(UserRow, user_id)

    def register(self, new: NewUser) -> User:
        """Create an account.

        Raises:
            Invalid: if the name or the address is taken.
        """
        password_hash = self._ctx.passwords.hash(new.password)
        return self._save(UserRow(), {"username": new.username, "email": new.email, "password_hash": password_hash})

    def login(self, login: LoginUser) -> User:
        """The user of an address, with a fresh token.

        Raises:
            Unauthorized: if there is no such user or the password is wrong; the error does not reveal which.
        """
        user = self._ctx.db.scalar(select(UserRow).where(UserRow.email == login.email))
        try:
            if user is not None:
                self._ctx.passwords.verify(user.password_hash, login.password)
                return self._shown(user)
            self._ctx.passwords.hash(login.password)  # takes as long, so that timing does not reveal who has an account
        except VerifyMismatchError:
            pass
        raise Unauthorized(**{"email or password": "is invalid"})

    def current(self) -> User:
        """The viewer's own account."""
        return self._shown(self._require_viewer())

    def update(self, changes: UpdateUser) -> User:
        """Change the viewer's own account.

        Raises:
            Invalid: if the new name or address is taken.
        """
        viewer = self._require_viewer()
        values: dict[str, str] = {**changes}  # type: ignore[dict-item]
        if "password" in values:
            values["password_hash"] = self._ctx.passwords.hash(values.pop("password"))
        return self._save(viewer, values)

    def _save(self, user: UserRow, values: dict[str, str]) -> User:
        """Save a new or changed user. The database decides whether a name is taken, as two requests may race for it."""
        try:
            with self._ctx.nested():
                for name, value in values.items():
                    setattr(user, name, value)
                self._ctx.db.add(user)
                self._ctx.db.flush()  # so that a conflict is raised inside the block
        except IntegrityError:
            raise Invalid(**self._taken(user, values)) from None
        return self._shown(user)

    def _taken(self, user: UserRow, values: dict[str, str]) -> dict[str, str]:
        others = select(UserRow.id).where(UserRow.id != user.id)
        return {
            column.key: "has already been taken"
            for column in (UserRow.username, UserRow.email)
            if self._ctx.db.scalar(others.where(column == values.get(column.key))) is not None
        }

    def _shown(self, user: UserRow) -> User:
        return User(
            email=user.email,
            token=self._ctx.tokens.issue(user.id),
            username=user.username,
            bio=user.bio,
            image=user.image,
        )
