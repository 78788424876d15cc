"""At which score a model says yes: part of the model's specification, free of NumPy.

OperatingPoint(threshold=0.5)
OperatingPoint(least_sensitivity=0.95)
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_THRESHOLD = 0.5

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class OperatingPoint(BaseModel):
    """Where sensitivity, specificity and predictive values are read: exactly one of two.

    A missed disease and a false alarm do not weigh the same. Where the first weighs more, name the
    sensitivity that the model must have; the threshold then follows from the evaluated records.

    Attributes:
        threshold: least score called positive; 0.5 when nothing is named.
        least_sensitivity: the threshold is the highest one with at least this sensitivity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: _Share | None = None
    least_sensitivity: _Share | None = None

    @property
    def cut(self) -> float:
        """The threshold; the default one where it follows from records that are not at hand."""
        return DEFAULT_THRESHOLD if self.threshold is None else self.threshold

    @model_validator(mode="before")
    @classmethod
    def _half_unless_named(cls, values: Any) -> Any:
        if isinstance(values, dict) and all(value is None for value in values.values()):
            return {**values, "threshold": DEFAULT_THRESHOLD}
        return values

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.threshold is None) == (self.least_sensitivity is None):
            raise ValueError("operating_point: give threshold or least_sensitivity, one of them")
        return self
