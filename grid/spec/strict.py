"""The base of all parts of a spec."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from grid.spec.kinds import of_its_kind


class Strict(BaseModel):
    """A frozen model that takes no unknown key, no infinity, and of numbers, texts and truth values only what
    a field holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        try:
            return of_its_kind(cls.model_fields[str(info.field_name)].annotation, value)
        except ValueError as error:
            raise PydanticCustomError("kind", "{said}", {"said": str(error)}) from error
