"""The base of request bodies: a null counts as left out, and all errors have one form."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator
from starlette.exceptions import HTTPException

from infinipot.serve.errors import ApiError

B = TypeVar("B", bound=BaseModel)

MINUS_ONE = BeforeValidator(lambda given: None if given == -1 else given)
"""Of a count that is left out by -1, too: as in vLLM."""

ONE = BeforeValidator(lambda given: given[0] if isinstance(given, list) and len(given) == 1 else given)
"""Of a text that may come as a list of one: as in VSS."""


def only(*values: Any, otherwise: str) -> BeforeValidator:
    """Of a field that is refused, with the words of `otherwise`, unless it has one of these values or is null."""

    def check(given: Any) -> Any:
        if given is not None and given not in values:
            raise ValueError(otherwise)
        return given

    return BeforeValidator(check)


NO_TOOLS = only([], otherwise="this server calls no tools: leave it out")
TEXT_ALONE = only([], ["text"], otherwise="answers are text: leave it out, or give ['text']")

NO_FORM = (HTTPException, ValueError, LookupError)
"""What is raised where a body is no multipart form; a full disk or a client that leaves raises something else."""


class Body(BaseModel):
    """A request body. A field that is null counts as left out: many clients write all of their fields."""

    @model_validator(mode="before")
    @classmethod
    def _said(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value is not None or name not in cls.model_fields}


def made_of(kind: type[B], given: Mapping[str, Any]) -> B:
    """A body made of parts of another one.

    Raises:
        ApiError: 400, as where a client sends such a body itself.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def invalid(faults: Sequence[Any], code: str = "invalid_request") -> ApiError:
    """The error for the first fault that pydantic found."""
    first = faults[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field, message = ".".join(place) or None, str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
    return ApiError(400, f"{field}: {message}" if field else message, code, param=field)
