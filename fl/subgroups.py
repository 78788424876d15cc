"""Subgroups: whose figures are compared when a model is evaluated, such as sex and age bands.

Subgroup(name="sex", groups=("f", "m"))
Subgroup(name="age", bands=(0, 40, 65, 120)).labels  # ("0-40", "40-65", "65-120")
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

_Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
_Edge = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Subgroup(BaseModel):
    """A column by which evaluated records are grouped; named groups, or bands of a number.

    A record whose cell is empty or in no group belongs to none and counts only in the whole.

    Attributes:
        name: the column.
        groups: values that make a group each.
        bands: rising edges; a band holds its lower one, the last band its upper one too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    groups: Annotated[tuple[_Name, ...], Field(max_length=8)] = ()
    bands: Annotated[tuple[_Edge, ...], Field(max_length=9)] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The groups' names, at least two."""
        return self.groups or tuple(f"{low:g}-{high:g}" for low, high in pairwise(self.bands))

    @model_validator(mode="after")
    def _two_groups_at_least(self) -> Self:
        if bool(self.groups) == bool(self.bands):
            raise ValueError(f"subgroup {self.name!r}: give groups or bands, one of them")
        if any(low >= high for low, high in pairwise(self.bands)):
            raise ValueError(f"subgroup {self.name!r}: the edges of bands must rise")
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError(f"subgroup {self.name!r}: at least two groups, none named twice")
        return self
