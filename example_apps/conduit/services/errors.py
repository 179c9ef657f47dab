"""What the services refuse, and how the API says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

import polydatum
from polydatum import ServiceError


class Errors(BaseModel):
    """Problems by field; ``body`` tells those of the whole, or all of them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[str]]

    body: list[str]


class GenericErrorModel(BaseModel):
    """The body of every answer of 400 or more."""

    errors: Errors


def as_response(**problems: str) -> GenericErrorModel:
    """An error's body, from a problem for each field.

    Example:
        >>> as_response(email="can't be empty").model_dump()
        {'errors': {'body': ["email can't be empty"], 'email': ["can't be empty"]}}
    """
    sentences = [f"{field} {problem}" for field, problem in problems.items()]
    by_field = {field: [problem] for field, problem in problems.items()}
    return GenericErrorModel.model_validate({"errors": {"body": sentences, **by_field}})


class ConduitError(ServiceError):
    """Something a client may not do. Every host answers it with its `code`, `headers` and `response`."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, **problems: str) -> None:
        super().__init__("; ".join(f"{field} {problem}" for field, problem in problems.items()))
        self.response = as_response(**problems)


class Invalid(ConduitError):
    code = 422


class Unauthorized(ConduitError):
    code = 401
    headers: ClassVar = {"WWW-Authenticate": "Token"}


class Forbidden(ConduitError):
    code = 403


class NotFound(ConduitError, polydatum.NotFound):
    pass


WORDS = {
    "missing": "can't be empty",
    "string_too_short": "can't be empty",
    "too_short": "can't be empty",
    "string_too_long": "is too long",
    "json_invalid": "is no JSON",
}
"""For pydantic's types of errors."""


def problems_in(errors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What pydantic found, by the names of fields; FastAPI passes on the same.

    Example:
        >>> problems_in([{"type": "missing", "loc": ("body", "user", "email")}])
        {'email': "can't be empty"}
    """
    found: dict[str, str] = {}
    for error in errors:
        *_, field = ["body", *(part for part in error["loc"] if isinstance(part, str))]
        found.setdefault(field, WORDS.get(error["type"], "is invalid"))
    return found
