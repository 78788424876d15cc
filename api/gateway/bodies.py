"""What a hospital may send, as strict and bounded models from which upstream bodies are built.

    proposal = read(SetState, body)
    await upstream.call("POST", path, proposal.upstream(run_id))

Fields that Prefect's client sends and the gateway does not pass on are ignored, or refused where
they would have an effect if they were passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    ValidationError,
)

from api.errors import FieldError
from api.gateway.refusals import invalid, refused
from api.gateway.states import may_set

MAX_MESSAGE: Final = 2_000
MAX_LOG_MESSAGE: Final = 10_000
MAX_LOG_LINES: Final = 500
MAX_LABELS: Final = 32
MAX_RUNS: Final = 100
_FORBIDDEN: Final = frozenset({"extra_forbidden", "none_required"})

Body = TypeVar("Body", bound=BaseModel)


def printable(limit: int, *, keep: str = "") -> Callable[[Any], Any]:
    """Makes a check that replaces what cannot be printed, except ``keep``, and cuts at a length."""

    def clean(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in value[:limit])

    return clean


Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,100}$")]
# orjson writes no integer of more than 64 bits, and JavaScript reads none of more than 53.
Integer = Annotated[int, Field(ge=-(2**53), le=2**53)]
LabelValue = Annotated[str, BeforeValidator(printable(200))] | bool | Integer | float


class Inspected(BaseModel):
    """A body whose unknown fields are left behind."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Heartbeat(Inspected):
    """A worker's sign of life; what it says about its packages is left behind."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,199}$")]
    heartbeat_interval_seconds: float | None = Field(default=None, ge=1, le=3600)

    def upstream(self) -> bytes:
        """Builds Prefect's body."""
        body: dict[str, Any] = {"name": self.name}
        if self.heartbeat_interval_seconds is not None:
            body["heartbeat_interval_seconds"] = int(self.heartbeat_interval_seconds)
        return orjson.dumps(body)


class ScheduledRuns(Inspected):
    """The question for work; queues are left behind, so that it is about the whole own pool."""

    limit: int = Field(default=MAX_RUNS, ge=1, le=MAX_RUNS)
    scheduled_before: AwareDatetime | None = None
    scheduled_after: AwareDatetime | None = None

    def upstream(self, *, waited_s: float = 0.0) -> bytes:
        """Builds Prefect's body; the time until which runs are asked for moves with the wait."""
        before = self.scheduled_before
        if before is not None:
            before += timedelta(seconds=waited_s)
        times = {"scheduled_before": before, "scheduled_after": self.scheduled_after}
        return orjson.dumps({"limit": self.limit, **{k: v for k, v in times.items() if v}})


class RunUpdate(Inspected):
    """The two fields of a run that its worker and engine set; any other is refused."""

    model_config = ConfigDict(extra="forbid")

    infrastructure_pid: (
        Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")] | None
    ) = None
    flow_version: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,100}$")] | None = None

    def upstream(self) -> bytes:
        """Builds Prefect's body."""
        return orjson.dumps(self.model_dump(exclude_none=True))


class Labels(RootModel[dict[Label, LabelValue]]):
    """Labels of a run: few, short, and plain values."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
    root: dict[Label, LabelValue] = Field(max_length=MAX_LABELS)

    def upstream(self) -> bytes:
        """Builds Prefect's body."""
        return orjson.dumps(self.root)


class StateDetails(Inspected):
    """Of a state's details only what tells a repeated proposal from a new one."""

    transition_id: UUID | None = None


class ProposedState(Inspected):
    """A state without its data, which whoever reads a result would unpickle."""

    type: Annotated[str, StringConstraints(max_length=20)]
    name: Annotated[str, StringConstraints(max_length=50)] | None = None
    message: Annotated[str, BeforeValidator(printable(MAX_MESSAGE, keep="\n"))] | None = None
    state_details: StateDetails = StateDetails()


class SetState(Inspected):
    """The proposal of a state; ``force`` is left behind and never passed on."""

    state: ProposedState

    def require_allowed(self) -> None:
        """Lets only what a hospital may set pass.

        Raises:
            Problem: 403, it is another type of state, or a name that Prefect does not use for it.
        """
        if not may_set(self.state.type, self.state.name):
            raise refused("state", "a hospital may not set a state of this type or name")

    def upstream(self, run_id: str) -> bytes:
        """Builds Prefect's body."""
        details = {"flow_run_id": run_id, "transition_id": self.state.state_details.transition_id}
        state = {
            "type": self.state.type,
            "name": self.state.name,
            "message": self.state.message,
            "state_details": {name: value for name, value in details.items() if value},
        }
        return orjson.dumps({"state": state, "force": False})


class LogLine(Inspected):
    """One line of a run's log."""

    flow_run_id: UUID
    task_run_id: None = None
    level: int = Field(ge=0, le=100)
    name: Annotated[str, BeforeValidator(printable(200)), StringConstraints(min_length=1)]
    message: Annotated[str, BeforeValidator(printable(MAX_LOG_MESSAGE, keep="\n\t"))]
    timestamp: AwareDatetime


class Logs(RootModel[list[LogLine]]):
    """Lines of logs; each names the run that it belongs to."""

    model_config = ConfigDict(strict=True, frozen=True)
    root: list[LogLine] = Field(max_length=MAX_LOG_LINES)

    def runs(self) -> set[str]:
        """Returns the ids of the runs that are named."""
        return {str(line.flow_run_id) for line in self.root}

    def upstream(self) -> bytes:
        """Builds Prefect's body."""
        return orjson.dumps([line.model_dump(exclude={"task_run_id"}) for line in self.root])


def read(model: type[Body], body: bytes) -> Body:
    """Reads a body.

    Raises:
        Problem: 422, it has not the right shape; 403, it sets a field that a hospital may not set.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] in _FORBIDDEN for item in found):
        raise refused("field", "the body sets a field that a hospital may not set") from None
    raise invalid(
        [FieldError(_dotted(item["loc"]), item["type"], item["msg"]) for item in found[:10]]
    )


def _dotted(location: Sequence[str | int]) -> str:
    return ".".join(str(part)[:50] for part in location) or "body"
