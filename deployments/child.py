"""The child's work: one run of one allowed flow, with the site's own environment.

The child is not Prefect's engine. It has no way to the Prefect server, and needs none: the worker
says there that the run began, and how it ended once the child has left its outcome. So what trains
on a hospital's rows speaks to the exchange alone, and a run costs the server three requests.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Final, Literal

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, StringConstraints

from deployments.confine import ChildLimits, keep_allowed, limit_child
from deployments.warm import Request
from fl.invitation import RoundInvitation
from tasks.hospital.site import SiteSettings, auth_of
from tasks.hospital.tokens import IssuedToken

_LONGEST_MESSAGE: Final = 2000


class RunOutcome(BaseModel):
    """How a run ended; a flow that ends as failed has said why and is no crash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["completed", "failed"]
    message: Annotated[str, StringConstraints(max_length=_LONGEST_MESSAGE)]

    @classmethod
    def of(cls, state: State[None]) -> RunOutcome:
        """Returns what a flow's state says."""
        message = (state.message or "")[:_LONGEST_MESSAGE]
        return cls(state="completed" if state.is_completed() else "failed", message=message)

    def as_state(self) -> State[None]:
        """Returns the state to report to the Prefect server."""
        made = Completed if self.state == "completed" else Failed
        return made(message=self.message)


def run_child(request: Request) -> str:
    """Runs the flow and returns its outcome, JSON; whatever it raises is a crash."""
    environment = dict(request)
    module, attribute = environment.pop("target").split(":")
    invitation = RoundInvitation.model_validate_json(environment.pop("invitation"))
    token = environment.pop("token")
    limit_child(
        ChildLimits(
            memory_mb=int(environment.pop("memory_mb")), cpu_s=int(environment.pop("cpu_s"))
        )
    )
    keep_allowed(os.environ)
    os.environ.update(environment)
    if token:
        auth_of(SiteSettings()).token = IssuedToken.model_validate_json(token)
    flow = getattr(import_module(module), attribute)
    return RunOutcome.of(flow.fn(invitation)).model_dump_json()
