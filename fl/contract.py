"""The data contract: what a hospital's data must look like, in public terms only.

    contract = DataContract(
        columns=(
            NumberColumn(name="age", minimum=0, maximum=120, unit="a"),
            CategoryColumn(name="sex", categories=("f", "m"), missing="indicate"),
        ),
        label=Label(name="malignant"),
    )
    contract.features  # 4: age; f, m, and whether sex is missing

Everything in it is public knowledge, never a figure of a hospital's data: standardisation starts
from the public ranges. A hospital's own mean or deviation would be a release of private data, and
would erase real differences between hospitals.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from fl.subgroups import Subgroup

ColumnName = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
]
ClassName = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f]*$")]
Unit = Annotated[str, StringConstraints(max_length=64)]
Limit = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]

MissingRule = Literal["refuse", "neutral", "indicate"]
"""What an empty cell is: ``refuse`` a broken rule; ``neutral`` a value that tells nothing, the
column's middle; ``indicate`` that, and a feature of its own which says that the cell was empty."""

MISSING_TOKENS: Final = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
"""What stands for an empty cell, unless a contract says otherwise."""

MOST_FEATURES: Final = 65_536


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumberColumn(_Frozen):
    """A number with its public range.

    Attributes:
        name: the column's name.
        minimum: least value that can be, in ``unit``.
        maximum: largest value that can be.
        unit: unit of the values, such as ``mg/dL``.
        typical: where nearly all values of a public population lie, such as a laboratory's
            reference interval; the model's scale then starts from it rather than from the range.
        whole: whether the values are whole numbers, as counts and grades are.
        missing: what an empty cell is.
        out_of_range: what a value outside the range is: ``refuse`` a broken rule, ``clip`` the
            nearest value within.
    """

    kind: Literal["number"] = "number"
    name: ColumnName
    minimum: Limit
    maximum: Limit
    unit: Unit = ""
    typical: tuple[Limit, Limit] | None = None
    whole: bool = False
    missing: MissingRule = "refuse"
    out_of_range: Literal["refuse", "clip"] = "refuse"

    @property
    def features(self) -> int:
        """Features that the column becomes."""
        return 1 + (self.missing == "indicate")

    @property
    def scale(self) -> tuple[float, float]:
        """The values that become -1 and 1."""
        return self.typical or (self.minimum, self.maximum)

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(
                f"column {self.name!r}: minimum {self.minimum} must lie below "
                f"maximum {self.maximum}"
            )
        low, high = self.scale
        if not self.minimum <= low < high <= self.maximum:
            raise ValueError(
                f"column {self.name!r}: typical {low} to {high} must be a range within "
                f"{self.minimum} to {self.maximum}"
            )
        return self


class CategoryColumn(_Frozen):
    """A column of names from a public list; any other name breaks a rule.

    Attributes:
        name: the column's name.
        categories: the names; two become one feature, more become one each.
        missing: what an empty cell is.
    """

    kind: Literal["category"] = "category"
    name: ColumnName
    categories: Annotated[tuple[ClassName, ...], Field(min_length=2, max_length=256)]
    missing: MissingRule = "refuse"

    @property
    def features(self) -> int:
        """Features that the column becomes."""
        known = 1 if len(self.categories) == 2 else len(self.categories)
        return known + (self.missing == "indicate")

    @model_validator(mode="after")
    def _categories_differ(self) -> Self:
        if twice := _twice(self.categories):
            raise ValueError(f"column {self.name!r}: categories named twice: {', '.join(twice)}")
        return self


def _kind(value: Any) -> str:
    """The kind of a column; one that does not say is a number."""
    kind = value.get("kind", "number") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


Column = Annotated[
    Annotated[NumberColumn, Tag("number")] | Annotated[CategoryColumn, Tag("category")],
    Discriminator(_kind),
]


class Images(_Frozen):
    """Images of one size; each becomes ``channels`` × ``height`` × ``width`` numbers.

    A hospital's folder holds the images and a label file; see ``docs/data.md``.

    Attributes:
        height: in pixels.
        width: in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        minimum: value of a black pixel.
        maximum: value of a white pixel.
    """

    height: Annotated[int, Field(ge=8, le=1024)]
    width: Annotated[int, Field(ge=8, le=1024)]
    channels: Literal[1, 3] = 1
    minimum: Limit = 0
    maximum: Limit = 255

    @property
    def pixel_type(self) -> Literal["uint8", "float32"]:
        """NumPy's name of a pixel's type: bytes where the range is theirs."""
        return "uint8" if (self.minimum, self.maximum) == (0, 255) else "float32"

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of an image as people have it: a grey one without an axis for the channel."""
        size = (self.height, self.width)
        return size if self.channels == 1 else (*size, self.channels)

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(
                f"images: minimum {self.minimum} must lie below maximum {self.maximum}"
            )
        return self


class Label(_Frozen):
    """The diagnosis column: two classes, written as ``negative`` and ``positive`` in the table."""

    name: ColumnName
    negative: ClassName = "0"
    positive: ClassName = "1"

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if self.negative == self.positive:
            raise ValueError(f"label {self.name!r}: both classes are written {self.negative!r}")
        return self


class DataContract(_Frozen):
    """What the model reads, the label, whose the rows are, and the groups to compare.

    Attributes:
        columns: what a model of tables reads, in this order; empty where it reads images.
        images: what a model of images reads; None where it reads columns.
        label: what the model learns to tell.
        patient: the column that says which patient a row is of, in any text that is the same in all
            of a patient's rows. The model never reads it. Where it is named, privacy protects
            patients, with all their rows; without it, each row counts as a patient of its own.
        subgroups: groups whose figures are compared, such as sex and age bands. Their columns may
            be columns that the model reads.
        missing_tokens: what stands for an empty cell.
    """

    columns: Annotated[tuple[Column, ...], Field(max_length=4096)] = ()
    images: Images | None = None
    label: Label
    patient: ColumnName | None = None
    subgroups: Annotated[tuple[Subgroup, ...], Field(max_length=3)] = ()
    missing_tokens: Annotated[tuple[ClassName, ...], Field(max_length=32)] = MISSING_TOKENS

    @property
    def features(self) -> int:
        """Numbers that a record becomes."""
        if self.images is not None:
            return self.images.channels * self.images.height * self.images.width
        return sum(column.features for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a record: (features,), or (channels, height, width)."""
        if self.images is not None:
            return (self.images.channels, self.images.height, self.images.width)
        return (self.features,)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that a hospital's table, or its label file, must have, none twice."""
        return tuple(
            dict.fromkeys((*self._read_names, *(subgroup.name for subgroup in self.subgroups)))
        )

    @property
    def _read_names(self) -> tuple[str, ...]:
        named = (*(column.name for column in self.columns), self.label.name)
        return named if self.patient is None else (*named, self.patient)

    @model_validator(mode="after")
    def _reads_columns_or_images(self) -> Self:
        if bool(self.columns) == (self.images is not None):
            raise ValueError(
                "a contract names columns or images: this one names "
                + ("both" if self.columns else "neither")
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        if twice := _twice(self._read_names):
            raise ValueError(f"columns named twice: {', '.join(twice)}")
        if twice := _twice([subgroup.name for subgroup in self.subgroups]):
            raise ValueError(f"subgroups named twice: {', '.join(twice)}")
        if self.label.name in {subgroup.name for subgroup in self.subgroups}:
            raise ValueError(f"subgroup {self.label.name!r}: the label tells no groups apart")
        return self

    @model_validator(mode="after")
    def _a_record_is_not_too_wide(self) -> Self:
        if self.columns and self.features > MOST_FEATURES:
            raise ValueError(f"columns: {self.features} features, {MOST_FEATURES} at most")
        return self


def _twice(names: Any) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
