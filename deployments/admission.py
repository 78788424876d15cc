"""What the worker decides before it forks: whether a run may run, and with what.

admitted = Admission(settings, installed_flows()).admit("hospital-round", parameters)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from deployments.confine import ChildLimits
from fl.code_hash import source_hash
from fl.invitation import RoundInvitation
from fl.names import HOSPITAL_FLOW
from tasks.hospital.allowed_flows import CodeNotApproved, require_approved
from tasks.hospital.parameters import check_parameters, round_named
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import SiteSettings

ALLOWED_FLOWS: Final[Mapping[str, str]] = MappingProxyType(
    {HOSPITAL_FLOW: "flows.hospital_round:hospital_round"}
)
"""Flow names that this package has for hospitals, each with the local module and attribute."""

_PACKAGES: Final = ("db", "deployments", "fl", "flows", "privacy", "tasks")
_AROUND_A_FLOW: Final = tuple(
    f"deployments.{name}" for name in ("hospital", "worker", "child", "preload")
)


class RunRefused(PermissionError):
    """A run that this hospital does not run; the text names the rule."""

    def __init__(self, refusal: Refusal, round_id: UUID | None) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.round_id = round_id


@dataclass(frozen=True, slots=True)
class Admitted:
    """What runs: the local flow, the validated invitation, and within which limits."""

    target: str
    invitation: RoundInvitation
    limits: ChildLimits


def installed_flows() -> dict[str, str]:
    """Returns the hash of the installed code of each flow: all modules that a run of it reaches."""
    return {
        flow: source_hash((target.split(":")[0], *_AROUND_A_FLOW), _PACKAGES)
        for flow, target in ALLOWED_FLOWS.items()
    }


class Admission:
    """The hospital's rules for runs.

    Args:
        settings: the hospital's settings; its list of approved code is read again for each run.
        installed: the hash of each flow's code, taken right after it was loaded.
    """

    def __init__(self, settings: SiteSettings, installed: Mapping[str, str]) -> None:
        self._settings = settings
        self._installed = dict(installed)

    def require_approved(self) -> None:
        """Checks the code of all flows.

        Raises:
            CodeNotApproved: this hospital did not approve what is installed.
        """
        for flow, code in self._installed.items():
            require_approved(self._settings, flow, code)

    def admit(self, flow: str | None, parameters: Mapping[str, Any]) -> Admitted:
        """Returns what to run.

        Raises:
            RunRefused: the flow is not allowed here, not with this code, or not with these
                parameters.
        """
        try:
            target = self._target(flow)
            invitation = check_parameters(parameters)
        except Refusal as refusal:
            raise RunRefused(refusal, round_named(parameters)) from None
        limits = ChildLimits.within(
            memory_mb=self._settings.child_memory_mb,
            cpu_s=self._settings.child_cpu_s,
            deadline_s=invitation.deadline_s,
        )
        return Admitted(target, invitation, limits)

    def _target(self, flow: str | None) -> str:
        name = flow or ""
        if name not in ALLOWED_FLOWS or name not in self._installed:
            raise Refusal("flow", f"flow {name[:80]!r} is not allowed at this hospital")
        try:
            require_approved(self._settings, name, self._installed[name])
        except CodeNotApproved as error:
            raise Refusal("code", str(error)) from None
        return ALLOWED_FLOWS[name]
