"""A hospital's policy: what may be done with its data, as its own people have written it.

    policy = parse_policy(Path("policy.yaml").read_text())
    policy.limits.epsilon_total

It is a hospital's own file; nothing that a coordinator sends can change it. What it does not say is
not allowed: a field that is missing has its most careful value, or is an error, and so is a field
that nobody knows. `fl.policy_rules` holds an invitation to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from fl.errors import PolicyError
from fl.invitation import Digest
from fl.opening_hours import Hours
from fl.spec import LEAST_COHORT, ModelName, Purpose
from privacy.ledger import Limits
from privacy.plan import Delta

_SHOWN: Final = 60

MostEpsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)]
CohortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
AnyOf = Literal["any"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone; give one such as Europe/Vienna") from None
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AllowedModel(_Strict):
    """A model that may be trained: its name, and the hash of its code or ``any``."""

    name: ModelName
    code_hash: Digest | AnyOf


class Policy(_Strict):
    """What a hospital allows.

    Attributes:
        expires: last day on which it holds, in local time.
        epsilon_per_training: most epsilon of one training, at ``delta``.
        epsilon_total: most epsilon of all trainings on one cohort, at ``delta``.
        delta: the hospital's one delta.
        cohort: under which name the ledger counts these patients.
        least_cohort: fewest hospitals, this one included, with which it takes part.
        noise: ``local`` trusts only the noise that this hospital adds itself; ``shared`` also that
            which the other hospitals add under the secure sum.
        most_colluding: with ``shared``, how many of the others may share what they know with the
            coordinator; their noise does not count.
        models: which models may be trained; None is none but those that a person approves.
        purposes: what for; None is nothing but what a person approves.
        hours: when rounds are answered; None is at any time.
        timezone: of hours and expiry; None is this machine's.
        approval: ``ask`` wants a person for each training, ``automatic`` only where models or
            purposes leave it to one.
    """

    expires: date
    epsilon_per_training: MostEpsilon
    epsilon_total: MostEpsilon
    delta: Delta
    cohort: CohortName = "all"
    least_cohort: Annotated[int, Field(ge=LEAST_COHORT, le=256)] = LEAST_COHORT
    noise: Literal["local", "shared"] = "local"
    most_colluding: Annotated[int, Field(ge=0, le=255)] | None = None
    models: AnyOf | Annotated[tuple[AllowedModel, ...], Field(min_length=1)] | None = None
    purposes: AnyOf | Annotated[tuple[Purpose, ...], Field(min_length=1)] | None = None
    hours: Annotated[tuple[Hours, ...], Field(min_length=1)] | None = None
    timezone: TimeZone | None = None
    approval: Literal["automatic", "ask"] = "ask"

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.epsilon_per_training > self.epsilon_total:
            raise ValueError(
                f"epsilon_per_training: {self.epsilon_per_training:g} exceeds epsilon_total "
                f"{self.epsilon_total:g}"
            )
        if (self.noise == "shared") != (self.most_colluding is not None):
            raise ValueError("most_colluding: give it with noise: shared, and only then")
        return self

    @property
    def limits(self) -> Limits:
        """What the ledger may spend."""
        return Limits(
            epsilon_per_training=self.epsilon_per_training,
            epsilon_total=self.epsilon_total,
            delta=self.delta,
        )

    def local(self, at: datetime) -> datetime:
        """Returns a time on the policy's own clock."""
        return at.astimezone(None if self.timezone is None else ZoneInfo(self.timezone))


def parse_policy(text: str) -> Policy:
    """Reads a policy from YAML.

    Raises:
        PolicyError: one line that names the field, or the line that is no YAML.
    """
    try:
        content = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise PolicyError(_yaml_problem(error)) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise PolicyError("it must be a list of fields and values, one a line")
    try:
        # As JSON, since only there a list is strictly a tuple and a text strictly a date.
        return Policy.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise PolicyError(_problem(error)) from None


class _Loader(yaml.SafeLoader):
    """Plain YAML, but a key given twice is an error and 1e-5 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a field has no name", problem_mark=node.start_mark
                )
            if key.value in seen:
                # The last one would count, whichever a reader saw first.
                problem = f"{_short(key.value)} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    # YAML 1.1, which the library reads, wants a dot there; YAML 1.2 does not.
    re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is not YAML"
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


def _problem(error: ValidationError) -> str:
    """One line for the first problem; of alternatives, the one that came furthest."""
    problems = error.errors(include_url=False)
    field = problems[0]["loc"][:1]
    return _line(max((p for p in problems if p["loc"][:1] == field), key=lambda p: len(p["loc"])))


def _line(problem: ErrorDetails) -> str:
    where = problem["loc"]
    # Alternatives of a type are named like parts of the file, in words that no field has.
    named = [str(part) for part in where[:1]]
    named += [str(part) for part in where[1:] if isinstance(part, int) or part.isidentifier()]
    field = ".".join(named)
    match problem["type"]:
        case "missing":
            said = "it is missing, and has no default"
        case "extra_forbidden":
            said = "there is no such field"
        case "value_error":
            said = str(problem["ctx"]["error"])
        case _:
            said = f"{problem['msg']}, not {_short(problem['input'])}"
    return f"{field}: {said}" if field else said


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
