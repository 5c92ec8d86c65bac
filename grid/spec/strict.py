"""The base of all parts of a spec."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A frozen model that takes no unknown key, no infinity, and a truth value only where a field holds one:
    `yes` would pass as 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth(cls, value: Any, handler: Any, info: Any) -> Any:
        truth = any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value]))
        if truth and cls.model_fields[info.field_name].annotation is not bool:
            raise PydanticCustomError("truth", "true and false have no meaning here")
        return handler(value)
