"""The questions of ``fedmed data contract init``: what only a person may say.

    draft = draft_of(looks, Answers(prompt=typer.prompt, say=print), public=False)

Nothing that is shown tells a value of the table, unless the table is public.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

from pydantic import ValidationError

from deployments.contract_draft import (
    TYPED,
    Draft,
    Proposal,
    missing_rule,
    number_column,
    propose,
    reason_to_leave_out,
    subgroups_of,
    usual_names,
)
from deployments.contract_look import ColumnLook
from deployments.errors import OperatorError
from deployments.known_columns import names_label, names_patients
from fl.contract import CategoryColumn, DataContract, Label, MissingRule, NumberColumn

SKIP: Final = "skip"
_RANGE: Final = re.compile(r"\s*([^\s,;]+?)(?:\s+to\s+|\s*[,;]\s*|\s+)([^\s,;]+)\s*")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line was given.

    Attributes:
        label: the label's column; None to guess or ask.
        patient: the column that says whose a row is; None to go by its name.
        negative: how the label's negative class is written; None to guess or ask.
        positive: likewise.
        public: whether the table is public or synthetic.
        prompt: asks, as `typer.prompt` does; None takes all proposals.
        say: shows a line.
    """

    label: str | None = None
    patient: str | None = None
    negative: str | None = None
    positive: str | None = None
    public: bool = False
    prompt: Callable[..., Any] | None = None
    say: Callable[[str], None] = field(default=lambda line: None)


def draft_of(looks: Mapping[str, ColumnLook], asked: Asked) -> Draft:
    """Drafts a contract for a table.

    Raises:
        OperatorError: a column that was named is not there, or nobody is asked and something has no
            proposal.
    """
    label = _label(looks, asked)
    patient = _patient(looks, asked)
    origins: dict[str, str] = {}
    left_out: dict[str, str] = {}
    columns: list[NumberColumn | CategoryColumn] = []
    unknown: list[str] = []
    for name, column in looks.items():
        if name in (label.name, patient):
            continue
        if why := reason_to_leave_out(column):
            left_out[name] = why
            asked.say(f"{name}: left out: {why}")
            continue
        proposal = propose(column, public=asked.public)
        decided = proposal if asked.prompt is None else _ask(column, proposal, asked)
        if decided is None:
            left_out[name] = "left out by hand"
        elif decided.column is None:
            unknown.append(name)
        else:
            columns.append(decided.column)
            origins[name] = decided.origin
    if unknown:
        raise OperatorError(
            f"no public range or list of categories is known for: {', '.join(unknown)}; without "
            "--yes they are asked for, --public-data proposes them from a public table"
        )
    if not columns:
        raise OperatorError("no column is left for a model to read")
    contract = DataContract(
        columns=tuple(columns), label=label, patient=patient, subgroups=subgroups_of(columns)
    )
    return Draft(contract, origins, left_out)


def _label(looks: Mapping[str, ColumnLook], asked: Asked) -> Label:
    name = asked.label or _guessed_label(looks, asked)
    if name not in looks:
        raise OperatorError(f"label {name!r}: the table has {', '.join(looks)}")
    if not looks[name].two_valued:
        raise OperatorError(f"label {name!r}: a label has two values; this column has other")
    usual = usual_names(looks[name])
    proposed = usual or (looks[name].distinct if asked.public else ())
    negative, positive = (*proposed, None, None)[:2]
    return Label(
        name=name,
        negative=_class(asked.negative, negative, f"label {name}: negative class", asked),
        positive=_class(asked.positive, positive, f"label {name}: positive class", asked),
    )


def _guessed_label(looks: Mapping[str, ColumnLook], asked: Asked) -> str:
    candidates = [name for name, column in looks.items() if column.two_valued]
    likely = [name for name in candidates if names_label(name)] or candidates
    if asked.prompt is None:
        if len(likely) == 1:
            return likely[0]
        named = ", ".join(candidates) or "none"
        raise OperatorError(f"which column is the label? Say --label; with two values: {named}")
    asked.say(f"columns with two values: {', '.join(candidates) or 'none'}")
    default = {"default": likely[0]} if len(likely) == 1 else {}
    return str(asked.prompt("which column is the label?", **default)).strip()


def _class(given: str | None, proposed: str | None, question: str, asked: Asked) -> str:
    if given is not None:
        return given
    if asked.prompt is not None:
        default = {} if proposed is None else {"default": proposed}
        return str(asked.prompt(f"{question} is written", **default)).strip()
    if proposed is None:
        raise OperatorError(f"{question}: say how it is written, with --negative and --positive")
    return proposed


def _patient(looks: Mapping[str, ColumnLook], asked: Asked) -> str | None:
    if asked.patient is not None:
        if asked.patient not in looks:
            raise OperatorError(f"patient {asked.patient!r}: the table has {', '.join(looks)}")
        return asked.patient
    found = next((name for name in looks if names_patients(name)), None)
    if found is None:
        asked.say("no column says whose a row is: each counts as a patient of its own (--patient)")
    else:
        asked.say(f"{found}: says whose a row is")
    return found


def _ask(column: ColumnLook, proposal: Proposal, asked: Asked) -> Proposal | None:
    """Asks until the answer makes a column; None to leave it out."""
    category = isinstance(proposal.column, CategoryColumn) or column.kind == "category"
    while True:
        try:
            if category:
                return _ask_names(column, proposal, asked)
            return _ask_range(column, proposal, asked)
        except ValidationError as error:
            asked.say("  " + "; ".join(problem["msg"] for problem in error.errors()))
        except ValueError as error:
            asked.say(f"  {error}")


def _ask_range(column: ColumnLook, proposal: Proposal, asked: Asked) -> Proposal | None:
    proposed = cast("NumberColumn | None", proposal.column)
    about = f" ({proposal.origin})" if proposed else ""
    asked.say(f"{column.name}: numbers{', some cells empty' if column.missing else ''}{about}")
    shown = "" if proposed is None else f"{proposed.minimum:g} {proposed.maximum:g}"
    answer = _prompt(asked, f"  least and largest value that can be, or {SKIP}", shown)
    if answer == SKIP:
        return None
    low, high = _range_of(answer)
    unit = _prompt(asked, "  unit", proposed.unit if proposed else "", may_be_empty=True)
    kept = proposed is not None and answer == shown and unit == proposed.unit
    typical = proposed.typical if kept and proposed else None
    found = number_column(
        column,
        low,
        high,
        unit=unit,
        typical=typical,
        whole=not unit and column.whole and _whole(asked),
        missing=_missing(column, asked),
    )
    return Proposal(found, proposal.origin if kept else TYPED)


def _ask_names(column: ColumnLook, proposal: Proposal, asked: Asked) -> Proposal | None:
    proposed = cast("CategoryColumn | None", proposal.column)
    about = f" ({proposal.origin})" if proposed else ""
    asked.say(f"{column.name}: names{', some cells empty' if column.missing else ''}{about}")
    shown = "" if proposed is None else ", ".join(proposed.categories)
    answer = _prompt(asked, f"  all names that can be, with commas between, or {SKIP}", shown)
    if answer == SKIP:
        return None
    kept = proposed is not None and answer == shown
    names = proposed.categories if kept and proposed else _names_of(answer)
    found = CategoryColumn(name=column.name, categories=names, missing=_missing(column, asked))
    return Proposal(found, proposal.origin if kept else TYPED)


def _whole(asked: Asked) -> bool:
    """What has no unit, such as a count or a grade, may be whole everywhere."""
    answer = _prompt(asked, "  whole numbers only: yes or no", "yes")
    if answer not in ("yes", "no"):
        raise ValueError(f"{answer!r}: yes or no")
    return answer == "yes"


def _missing(column: ColumnLook, asked: Asked) -> MissingRule:
    if not column.missing:
        return "refuse"
    answer = _prompt(asked, "  empty cells: refuse, neutral or indicate", missing_rule(column))
    if answer not in get_args(MissingRule):
        raise ValueError(f"{answer!r}: one of {', '.join(get_args(MissingRule))}")
    return cast("MissingRule", answer)


def _prompt(asked: Asked, question: str, shown: str, *, may_be_empty: bool = False) -> str:
    default = {"default": shown} if shown or may_be_empty else {}
    if asked.prompt is None:
        raise OperatorError(f"nobody is there to answer: {question.strip()}")
    return str(asked.prompt(question, **default)).strip()


def _range_of(answer: str) -> tuple[float, float]:
    parts = _RANGE.fullmatch(answer)
    try:
        if parts is not None:
            return float(parts[1]), float(parts[2])
    except ValueError:
        pass
    raise ValueError(f"{answer!r}: write two numbers, the least and the largest, such as 0 120")


def _names_of(answer: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in answer.split(",") if name.strip())
