"""What a hospital's people approve of installed code: ``fedmed hospital code``.

fedmed hospital code --hospital-id north
fedmed hospital code --hospital-id north --approve
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from deployments.cli_site import HospitalId, settings_here
from deployments.errors import OperatorError
from fl.code_hash import own_code_hash
from fl.errors import ModelError
from fl.installed import installed_names
from tasks.hospital.allowed_flows import (
    CodeNotApproved,
    allowed_flows_file,
    approve_code,
    read_allowed,
)

code_app = typer.Typer()

_out = Console()


@code_app.command("code")
def hospital_code(
    hospital_id: HospitalId,
    approve: Annotated[
        bool, typer.Option("--approve", help="Record the installed code as approved.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Show which code may run here and which is installed; approve what is installed.

    The source of architectures that are not the platform's own is listed, too; their models are
    approved by code hash, one by one, in the policy or training by training.
    """
    from deployments.admission import installed_flows

    settings = settings_here(hospital_id)
    installed = installed_flows()
    approved: dict[str, str] = {}
    try:
        approved = {name: one.code for name, one in read_allowed(settings).flows.items()}
    except CodeNotApproved as error:
        _print(str(error))
    _print(str(allowed_flows_file(settings)))
    for flow in sorted({*installed, *approved}):
        same = installed.get(flow) == approved.get(flow)
        _print(f"{flow}: {'approved' if same else 'NOT APPROVED, it does not run'}")
        _print(f"  installed {installed.get(flow, 'nothing')}")
        _print(f"  approved  {approved.get(flow, 'nothing')}")
    for name in installed_names():
        _print(f"architecture {name}: {_own_code(name)}")
    if not approve:
        return
    if not (yes or typer.confirm("Approve the installed code?")):
        raise OperatorError("nothing is approved")
    approve_code(settings, installed, now=datetime.now(UTC))
    _print("approved; a hospital that is running counts it from its next start on")


def _own_code(name: str) -> str:
    try:
        return f"source {own_code_hash(name)}, part of the code hash of each model of it"
    except ModelError as error:
        return str(error)


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)
