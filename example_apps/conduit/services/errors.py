"""The errors of the services, and their bodies in the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

import polydatum
from polydatum import ServiceError


class Errors(BaseModel):
    """Problems by field; ``body`` has those of the whole body, or all problems."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[str]]

    body: list[str]


class GenericErrorModel(BaseModel):
    """The body of every answer of 400 or more."""

    errors: Errors


def as_response(**problems: str) -> GenericErrorModel:
    """The body of an error, from one problem per field.

    Example:
        >>> as_response(email="can't be empty").model_dump()
        {'errors': {'body': ["email can't be empty"], 'email': ["can't be empty"]}}
    """
    sentences = [f"{field} {problem}" for field, problem in problems.items()]
    by_field = {field: [problem] for field, problem in problems.items()}
    return GenericErrorModel.model_validate({"errors": {"body": sentences, **by_field}})


class ConduitError(ServiceError):
    """An error of the client. Every host answers it with its `code`, `headers` and `response`."""

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
    "json_invalid": "is not valid JSON",
}
"""The messages for pydantic's error types."""


def problems_in(errors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Pydantic's errors, which FastAPI passes on unchanged, as problems by field name.

    Example:
        >>> problems_in([{"type": "missing", "loc": ("body", "user", "email")}])
        {'email': "can't be empty"}
    """
    found: dict[str, str] = {}
    for error in errors:
        *_, field = ["body", *(part for part in error["loc"] if isinstance(part, str))]
        found.setdefault(field, WORDS.get(error["type"], "is invalid"))
    return found
