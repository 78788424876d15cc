"""The data contract: what a hospital's table must look like, in public terms only.

    contract = DataContract(columns=(Column(name="age", minimum=0, maximum=120, unit="a"),),
                            label=Label(name="malignant"))

Standardisation uses the public ranges, never a hospital's own mean or deviation: those would be a
release of private data, and they erase real differences between hospitals.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

ColumnName = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
]
ClassName = Annotated[str, StringConstraints(max_length=128)]
Unit = Annotated[str, StringConstraints(max_length=64)]
Limit = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Column(BaseModel):
    """A numeric column with its public range; values outside the range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ColumnName
    minimum: Limit
    maximum: Limit
    unit: Unit = ""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(
                f"column {self.name!r}: minimum {self.minimum} must lie below "
                f"maximum {self.maximum}"
            )
        return self


class Label(BaseModel):
    """The diagnosis column: two classes, written as ``negative`` and ``positive`` in the table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ColumnName
    negative: ClassName = "0"
    positive: ClassName = "1"

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if self.negative == self.positive:
            raise ValueError(f"label {self.name!r}: both classes are written {self.negative!r}")
        return self


class DataContract(BaseModel):
    """Columns in the order in which a model reads them, the label, and whose the rows are.

    Attributes:
        columns: what the model reads.
        label: what it learns to tell.
        patient: the column that says which patient a row is of, in any text that is the same in all
            of a patient's rows. The model never reads it. Where it is named, privacy protects
            patients, with all their rows; without it, each row counts as a patient of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=4096)]
    label: Label
    patient: ColumnName | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns that a hospital's table must have."""
        named = (*(column.name for column in self.columns), self.label.name)
        return named if self.patient is None else (*named, self.patient)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice:
            raise ValueError(f"columns named twice: {', '.join(twice)}")
        return self
