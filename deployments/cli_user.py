"""People who may sign in, and the keys of their tokens: ``fedmed user …``, ``fedmed auth …``.

fedmed user add ada --role scientist
fedmed user list
fedmed user suspend ada
fedmed user resume ada
fedmed user role ada --role compliance
fedmed user reset-password ada
fedmed auth rotate-key
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployments.errors import OperatorError
from deployments.settings import StackSettings

if TYPE_CHECKING:
    from deployments.operator import OperatorClient

user_app = typer.Typer(help="People who may sign in.", no_args_is_help=True)
auth_app = typer.Typer(help="Keys that sign access tokens.", no_args_is_help=True)

_out = Console()


class Role(StrEnum):
    """What a person may do."""

    OPERATOR = "operator"
    SCIENTIST = "scientist"
    COMPLIANCE = "compliance"


Name = Annotated[str, typer.Argument(help="The person's name.")]
RoleOption = Annotated[Role, typer.Option("--role", help="What the person may do.")]


@user_app.command("add")
def user_add(username: Name, role: RoleOption) -> None:
    """Add a person; the generated password is shown this once."""
    with _operator() as operator:
        _show_password(operator.add_user(username, role=role.value))


@user_app.command("list")
def user_list() -> None:
    """List the people who may sign in."""
    with _operator() as operator:
        found = operator.users()
    table = Table("name", "role", "state")
    for user in found:
        table.add_row(user["username"], user["role"], user["state"])
    _out.print(table)


@user_app.command("suspend")
def user_suspend(username: Name) -> None:
    """Refuse the person's tokens at once, and every sign-in."""
    with _operator() as operator:
        operator.change_user(username, "suspend")
    _print(f"{username} is suspended; `fedmed user resume {username}` lifts it")


@user_app.command("resume")
def user_resume(username: Name) -> None:
    """Let a suspended person sign in again."""
    with _operator() as operator:
        operator.change_user(username, "resume")
    _print(f"{username} may sign in again")


@user_app.command("role")
def user_role(username: Name, role: RoleOption) -> None:
    """Give a person another role, at once."""
    with _operator() as operator:
        operator.change_user(username, "role", role=role.value)
    _print(f"{username} is {role.value} now")


@user_app.command("reset-password")
def user_reset_password(username: Name) -> None:
    """Give a person a new password; it is shown this once, and the old one's tokens end."""
    with _operator() as operator:
        _show_password(operator.change_user(username, "password-reset"))


@auth_app.command("rotate-key")
def auth_rotate_key() -> None:
    """Sign access tokens with a new key; running API processes take it up within seconds."""
    from api.auth.key_ring import drop_retired, list_keys, rotate
    from api.auth.secret_files import SecretExposed
    from api.auth.tokens import LONGEST_LIFETIME_S

    directory = StackSettings().secrets
    now = datetime.now(UTC)
    try:
        if not list_keys(directory):
            raise OperatorError(f"no signing key is in {directory}; `fedmed up` makes the first")
        made = rotate(directory, now=now)
        dropped = drop_retired(directory, longest_lifetime_s=LONGEST_LIFETIME_S, now=now)
    except (SecretExposed, ValueError) as error:
        raise OperatorError(str(error)) from None
    _print(f"made {made}")
    for path in dropped:
        _print(f"dropped {path}: no token of it can be valid any more")


def _operator() -> OperatorClient:
    from deployments.operator import OperatorClient

    return OperatorClient.connect(StackSettings())


def _show_password(made: dict[str, Any]) -> None:
    _print(f"{made['username']} ({made['role']}), password, shown this once:")
    _print(made["password"])


def _print(line: str) -> None:
    _out.print(line, markup=False, highlight=False, soft_wrap=True)
