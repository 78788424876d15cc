"""The flows that a hospital lets run, each with the hash of the code it was approved with.

    require_approved(settings, {"hospital-round": installed_hash})

`allowed-flows.json` in the hospital's home, mode 0600. A flow runs if its name is there, and if the
installed code is the one that was there when a person approved it, or at the first start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from db.disk import replace_file, write_new_file
from fl.invitation import Digest
from tasks.hospital.site import SiteSettings

_FILE: Final = "allowed-flows.json"

FlowName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class ApprovedCode(BaseModel):
    """The hash of the code that a flow may run, and since when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Digest
    approved: AwareDatetime


class AllowedFlows(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flows: dict[FlowName, ApprovedCode]


class CodeNotApproved(Exception):
    """The installed code is not what this hospital approved; the text names both and what to do."""


def allowed_flows_file(settings: SiteSettings) -> Path:
    """Returns where the list lies."""
    return settings.hospital_home / _FILE


def read_allowed(settings: SiteSettings) -> AllowedFlows:
    """Returns the list.

    Raises:
        CodeNotApproved: there is none, or it cannot be read.
    """
    path = allowed_flows_file(settings)
    try:
        return AllowedFlows.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CodeNotApproved(f"no flow is allowed, {path} is missing; {_how(settings)}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise CodeNotApproved(f"{path}: {place}: {first['msg']}; {_how(settings)}") from None


def require_approved(settings: SiteSettings, flow: str, installed: str) -> None:
    """Checks a flow's name and the hash of its installed code against the list.

    Raises:
        CodeNotApproved: the flow is not listed, or with another hash.
    """
    found = read_allowed(settings).flows.get(flow)
    if found is None:
        raise CodeNotApproved(f"flow {flow!r} is not allowed at this hospital; {_how(settings)}")
    if found.code != installed:
        raise CodeNotApproved(
            f"flow {flow!r}: the installed code is {installed}, this hospital approved "
            f"{found.code}; {_how(settings)}"
        )


def approve_code(settings: SiteSettings, installed: Mapping[str, str], *, now: datetime) -> Path:
    """Records these flows and hashes, and no others, as approved; returns where."""
    path = allowed_flows_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _text(installed, now))
    return path


def record_first_code(
    settings: SiteSettings, installed: Mapping[str, str], *, now: datetime
) -> Path | None:
    """Records the code that is installed when a hospital begins; never replaces a list."""
    path = allowed_flows_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_new_file(path, _text(installed, now))
    except FileExistsError:
        return None
    return path


def _text(installed: Mapping[str, str], now: datetime) -> bytes:
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    flows = {flow: {"code": code, "approved": at} for flow, code in installed.items()}
    return (json.dumps({"flows": flows}, indent=2) + "\n").encode()


def _how(settings: SiteSettings) -> str:
    return (
        f"`fedmed hospital code --hospital-id {settings.hospital_id}` shows both, with --approve "
        "it records the installed one"
    )
