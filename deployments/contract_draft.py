"""A draft of a data contract: what is proposed for each column, and the file that comes of it.

    proposal = propose(looks["age"], public=False)
    proposal.column         # NumberColumn(name="age", minimum=0, maximum=120, unit="a"), or None
    text = draft_yaml(Draft(contract, origins, left_out))

Unless the data are public, nothing of their values is proposed: ranges come from
`deployments.known_columns`, categories and classes from the usual ways to write them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from deployments.contract_look import ColumnLook
from deployments.known_columns import (
    PAIRS,
    SEX,
    KnownColumn,
    identifies,
    known_column,
    names_age,
    names_sex,
)
from fl.contract import CategoryColumn, DataContract, MissingRule, NumberColumn
from fl.subgroups import Subgroup

_FEW_GRADES: Final = 10
"""Whole numbers no further apart are grades or yes and no: their range is what they are."""

FROM_DATA: Final = "from public data"
ROUNDED: Final = f"{FROM_DATA}, rounded outwards"
TYPED: Final = "as it was typed"
NOT_HELD: Final = "does not hold them: look at the unit"
USUAL: Final = "the usual way to write it"
AGE_BANDS: Final = (0.0, 40.0, 65.0, 120.0)
_MARGIN: Final = 0.1
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for a column.

    Attributes:
        column: None where a person must say the range, or the categories.
        origin: where what is proposed comes from.
    """

    column: NumberColumn | CategoryColumn | None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A contract and what its file says in comments.

    Attributes:
        contract: the contract.
        origins: where each column's range or categories come from.
        left_out: columns of the table that the model does not read, and why.
    """

    contract: DataContract
    origins: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def reason_to_leave_out(column: ColumnLook) -> str:
    """Returns why a model should not read a column; empty where it may."""
    if identifies(column.name):
        return "tells who somebody is"
    return {"text": "text, or too many names", "empty": "no cell is filled"}.get(column.kind, "")


def propose(column: ColumnLook, *, public: bool) -> Proposal:
    """Returns what is proposed for a column that a model may read."""
    known = known_column(column.name)
    if (names := usual_names(column)) and not (known and column.kind == "number"):
        return Proposal(_category(column, names), USUAL)
    if column.kind == "number":
        return _number_proposal(column, known, public=public)
    if public and len(column.distinct) > 1:
        return Proposal(_category(column, column.distinct), FROM_DATA)
    return Proposal(None)


def usual_names(column: ColumnLook) -> tuple[str, ...]:
    """Returns the usual names, such as no and yes, that hold the column's; empty for others.

    That a column has them is its kind; which names a table has otherwise is its content.
    """
    usual = (*SEX, *PAIRS) if names_sex(column.name) else PAIRS
    if not column.distinct:
        return ()
    return next((pair for pair in usual if set(column.distinct) <= set(pair)), ())


def subgroups_of(columns: Sequence[NumberColumn | CategoryColumn]) -> tuple[Subgroup, ...]:
    """Returns the subgroups by sex and by age that the columns allow."""
    found = []
    for column in columns:
        if isinstance(column, CategoryColumn) and names_sex(column.name):
            found.append(Subgroup(name=column.name, groups=column.categories[:8]))
        if isinstance(column, NumberColumn) and names_age(column.name):
            edges = [edge for edge in AGE_BANDS if column.minimum < edge < column.maximum]
            bands = (column.minimum, *edges, column.maximum)
            if len(bands) > 2:
                found.append(Subgroup(name=column.name, bands=bands))
    return tuple(found)


def outwards(minimum: float, maximum: float) -> tuple[float, float]:
    """Returns a range in round numbers that holds another with a margin of a tenth on each side.

    A range that does not reach below zero stays there.
    """
    width = (maximum - minimum) or abs(maximum) or 1.0
    step = _round_step(width / 10)
    low = math.floor((minimum - _MARGIN * width) / step) * step
    high = math.ceil((maximum + _MARGIN * width) / step) * step
    if minimum >= 0 > low:
        low = 0.0
    return _tidy(low), _tidy(high)


def draft_yaml(draft: Draft) -> str:
    """Returns a draft as YAML with comments.

    Raises:
        AssertionError: what is written does not read as the same contract.
    """
    contract = draft.contract
    lines = [
        "# A data contract: what every hospital's table must look like, in public terms only.",
        "# `fedmed data check --contract FILE` holds a table to it, at the hospital.",
        "# A range says where a value can lie at all, from public knowledge, never from a "
        "hospital's data.",
        "columns:",
    ]
    for column in contract.columns:
        if origin := draft.origins.get(column.name):
            lines.append(f"  # {_comment(origin)}")
        lines.append(f"  - {_flow(_plain(column))}")
    lines.append(f"label: {_flow(_plain(contract.label))}")
    if contract.patient is None:
        lines.append("# No column says whose a row is: each row counts as a patient of its own.")
    else:
        lines.append("# All rows of a patient are protected together; the model never reads it.")
        lines.append(f"patient: {_flow(contract.patient)}")
    if contract.subgroups:
        lines.append("# Groups whose figures are compared.")
        lines.append("subgroups:")
        lines += [f"  - {_flow(_plain(subgroup))}" for subgroup in contract.subgroups]
    if draft.left_out:
        lines.append("# Columns of the table that are not read:")
        lines += [f"#   {_comment(name)}: {_comment(why)}" for name, why in draft.left_out.items()]
    text = "\n".join(lines) + "\n"
    if DataContract.model_validate(yaml.safe_load(text)) != contract:
        raise AssertionError("the contract does not read as it was written")
    return text


def _number_proposal(column: ColumnLook, known: KnownColumn | None, *, public: bool) -> Proposal:
    # A measured value may be whole in one hospital's table and not in another's.
    holds = known is not None and known.minimum <= column.minimum <= column.maximum <= known.maximum
    if known is not None and (holds or not public):
        found = number_column(
            column, known.minimum, known.maximum, unit=known.unit, typical=known.typical
        )
        return Proposal(found, known.source)
    if public:
        low, high, origin = column.minimum, column.maximum, FROM_DATA
        if not (column.whole and 0 < high - low <= _FEW_GRADES):
            (low, high), origin = outwards(low, high), ROUNDED
        if known is not None:
            origin = f"{origin}; {_not_held(known)}"
        return Proposal(number_column(column, low, high, whole=column.whole), origin)
    return Proposal(None)


def _not_held(known: KnownColumn) -> str:
    usual = f"{known.minimum:g} to {known.maximum:g} {known.unit}".strip()
    return f"the usual range, {usual}, {NOT_HELD}"


def number_column(
    column: ColumnLook,
    minimum: float,
    maximum: float,
    *,
    unit: str = "",
    typical: tuple[float, float] | None = None,
    whole: bool = False,
    missing: MissingRule | None = None,
) -> NumberColumn:
    """Returns a column of numbers of the table with a public range."""
    return NumberColumn(
        name=column.name,
        minimum=minimum,
        maximum=maximum,
        unit=unit,
        typical=typical,
        whole=whole,
        missing=missing or missing_rule(column),
    )


def missing_rule(column: ColumnLook) -> MissingRule:
    """Returns what an empty cell of a column should be."""
    return "indicate" if column.missing else "refuse"


def _category(column: ColumnLook, names: Sequence[str]) -> CategoryColumn:
    return CategoryColumn(name=column.name, categories=tuple(names), missing=missing_rule(column))


def _round_step(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return power * next(step for step in _STEPS if step * power >= width * (1 - 1e-9))


def _tidy(value: float) -> float:
    return float(f"{value:.12g}") + 0.0


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = value.model_dump(mode="json", exclude_defaults=True)
    # A column that does not say its kind is a number; a label's classes are always said.
    if isinstance(value, CategoryColumn):
        plain = {"name": value.name, "kind": "category"} | plain
    if hasattr(value, "positive"):
        plain |= {"negative": value.negative, "positive": value.positive}
    return plain


def _flow(value: Any) -> str:
    shown = _dumped(value, allow_unicode=True)
    # Not every line end that Unicode knows survives as itself.
    return shown if shown.isprintable() else _dumped(value, allow_unicode=False)


def _dumped(value: Any, *, allow_unicode: bool) -> str:
    text = yaml.safe_dump(
        _whole(value),
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=allow_unicode,
        width=1 << 30,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _comment(text: str) -> str:
    """A text that cannot end the comment's line: YAML knows more line ends than Python's split."""
    return text if text.isprintable() else json.dumps(text)
