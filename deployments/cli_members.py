"""What the operator decides on hospitals: ``fedmed hospital invite, list, suspend, readmit, end``.

fedmed hospital invite "Charité Berlin"
fedmed hospital suspend charite-berlin --reason "keys were stolen"
fedmed hospital readmit charite-berlin

Each takes effect at once; nothing needs a restart.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployments.errors import ApiRefused, OperatorError
from deployments.settings import StackSettings

members_app = typer.Typer()

_out = Console()

MemberId = Annotated[str, typer.Argument(help="The hospital's id, as `list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded and shown to the hospital's round.")]
_NO_REASON = "the operator gave no reason"


@members_app.command("invite")
def hospital_invite(
    name: Annotated[str, typer.Argument(help='The hospital\'s name, such as "Charité Berlin".')],
    hospital_id: Annotated[
        str | None, typer.Option(help="Its id; follows from the name unless given.")
    ] = None,
    valid_days: Annotated[int, typer.Option(min=1, max=90, help="Days the code is valid.")] = 7,
    again: Annotated[
        bool,
        typer.Option("--again", help="It is known: it lost its keys, its credential, or left."),
    ] = False,
) -> None:
    """Operator: make a one-time join code for a hospital."""
    from deployments.operator import OperatorClient

    with OperatorClient.connect(StackSettings()) as operator:
        try:
            invited = operator.invite(
                name, hospital_id=hospital_id, valid_days=valid_days, again=again
            )
        except ApiRefused as refused:
            if refused.problem_type.endswith("/already-exists"):
                raise OperatorError(
                    f"{refused}: --again makes it a new code, --hospital-id chooses another id"
                ) from None
            raise
    expires = datetime.fromisoformat(invited["expires_at"])
    _print(f"{invited['name']} is invited as {invited['hospital_id']}. It runs, once, until")
    _print(f"{expires:%Y-%m-%d %H:%M} UTC:")
    _print("")
    _print(f"  {invited['command']}")
    _print("")
    _print("The code is shown this once; on the telephone, read it in its groups of four.")


@members_app.command("list")
def hospital_list() -> None:
    """Operator: show the hospitals, their states and their keys."""
    from deployments.operator import OperatorClient

    with OperatorClient.connect(StackSettings()) as operator:
        found = operator.hospitals()
    table = Table()
    table.add_column("hospital", overflow="fold")
    for column in ("state", "fingerprint"):
        table.add_column(column, no_wrap=True)
    for column in ("last heard", "name"):
        table.add_column(column, overflow="fold")
    for hospital in found:
        table.add_row(
            hospital["hospital_id"],
            hospital["state"],
            _fingerprint(hospital),
            _time(hospital["last_heard_at"]),
            hospital["name"],
        )
    _out.print(table)


@members_app.command("suspend")
def hospital_suspend(hospital_id: MemberId, reason: Reason = _NO_REASON) -> None:
    """Operator: keep a hospital out, at once, until it is readmitted."""
    _change(hospital_id, "suspend", reason=reason)


@members_app.command("readmit")
def hospital_readmit(hospital_id: MemberId) -> None:
    """Operator: take a suspended hospital back."""
    _change(hospital_id, "readmit")


@members_app.command("end")
def hospital_end(
    hospital_id: MemberId,
    reason: Reason = _NO_REASON,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Operator: end a hospital's membership; its record stays."""
    if not (yes or typer.confirm(f"End the membership of {hospital_id}, for good?")):
        raise OperatorError("nothing has changed")
    _change(hospital_id, "end", reason=reason)


def _change(hospital_id: str, verb: Any, **body: str) -> None:
    from deployments.operator import OperatorClient

    with OperatorClient.connect(StackSettings()) as operator:
        hospital = operator.change_standing(hospital_id, verb, **body)
    _print(f"{hospital['hospital_id']} is {hospital['state']}")


def _fingerprint(hospital: dict[str, Any]) -> str:
    from privacy.secagg.keys import PublicIdentity

    if hospital["signing_key"] is None:
        return "has not joined"
    return PublicIdentity.from_hex(
        signing_key=hospital["signing_key"], sealing_key=hospital["sealing_key"]
    ).fingerprint()


def _time(text: str | None) -> str:
    return "never" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)
