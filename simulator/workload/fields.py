"""What the parts of a workload's config are made of: a strict base and the kinds of numbers they take."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Tokens = Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
Level = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]


class Config(BaseModel):
    """Frozen, and strict: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
