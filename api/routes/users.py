"""The people who may sign in: adding, suspending, roles and passwords.

A generated password is shown once, in the answer; only its hash is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.auth.addresses import peer_of
from api.auth.guard import may
from api.auth.passwords import WrongSecret, holds_username, new_secret
from api.auth.scopes import USERS_WRITE
from api.auth.throttle import account, address, throttled
from api.auth.tokens import USER_PREFIX, Principal
from api.errors import FieldError, Problem
from api.schemas.people import (
    NewUser,
    OneTimePassword,
    PasswordChange,
    RoleChange,
    Username,
    UserView,
)
from api.services import Services, ServicesDep
from db.models import User
from db.queries import audit, users
from db.session import transaction

router = APIRouter(prefix="/users", tags=["users"])

Operator = Annotated[Principal, may(USERS_WRITE)]
Change = Callable[[Session], User]


@router.post("", status_code=201, summary="Add a person")
async def add_user(
    body: NewUser, response: Response, services: ServicesDep, caller: Operator
) -> OneTimePassword:
    """Adds a person with a role; the answer holds the generated password."""

    def add(session: Session, password_hash: str) -> User:
        return users.add_user(
            session, username=body.username, password_hash=password_hash, role=body.role
        )

    _never_store(response)
    return await _with_new_password(
        services, caller, "user.added", add, details={"role": body.role}
    )


@router.get("", summary="List the people who may sign in")
def list_users(services: ServicesDep, _: Operator) -> list[UserView]:
    """All of them by name."""
    with transaction(services.engine) as session:
        return [_view(user) for user in users.list_users(session)]


@router.post("/{username}/suspend", summary="Suspend a person")
def suspend(username: Username, services: ServicesDep, caller: Operator) -> UserView:
    """Refuses the person's tokens at once and signs nobody in; not for the last operator."""

    def change(session: Session) -> User:
        return users.set_user_state(session, username=username, state="suspended")

    return _view(_changed(services, caller, "user.suspended", change))


@router.post("/{username}/resume", summary="Take a suspended person back")
def resume(username: Username, services: ServicesDep, caller: Operator) -> UserView:
    """The person signs in again; tokens from before stay refused."""

    def change(session: Session) -> User:
        return users.set_user_state(session, username=username, state="active")

    return _view(_changed(services, caller, "user.resumed", change))


@router.post("/{username}/role", summary="Give a person another role")
def set_role(
    username: Username, body: RoleChange, services: ServicesDep, caller: Operator
) -> UserView:
    """The person's tokens lose at once what the role does not allow."""

    def change(session: Session) -> User:
        return users.set_user_role(session, username=username, role=body.role)

    return _view(
        _changed(services, caller, "user.role-changed", change, details={"role": body.role})
    )


@router.post("/{username}/password-reset", summary="Give a person a new password")
async def reset_password(
    username: Username, response: Response, services: ServicesDep, caller: Operator
) -> OneTimePassword:
    """The answer holds the generated password; the person's tokens are refused at once."""

    def change(session: Session, password_hash: str) -> User:
        return users.set_password(session, username=username, password_hash=password_hash)

    _never_store(response)
    return await _with_new_password(services, caller, "user.password-reset", change)


@router.put("/me/password", status_code=204, summary="Change one's own password")
async def change_password(
    body: PasswordChange,
    request: Request,
    services: ServicesDep,
    caller: Annotated[Principal, may()],
) -> None:
    """All of the person's tokens are refused at once, this one too: sign in again."""
    if not caller.subject.startswith(USER_PREFIX):
        raise Problem(
            403,
            "no-password",
            "The caller has no password here",
            detail="only who signs in here with a password can change it here",
        )
    username = caller.subject.removeprefix(USER_PREFIX)
    new = body.new.get_secret_value()
    if holds_username(new, username):
        detail = "the password must not hold the username"
        field = FieldError("new", "username", detail)
        raise Problem(
            422, "invalid-request", "The request is not valid", detail=detail, errors=[field]
        )
    peer = peer_of(request, services.settings.trusted_proxies)

    def change() -> None:
        _require_password(services, username, body.old.get_secret_value(), peer=peer)
        password_hash = services.passwords.hash(new)
        _changed(
            services,
            caller,
            "user.password-changed",
            lambda session: users.set_password(
                session, username=username, password_hash=password_hash
            ),
        )

    await to_thread.run_sync(change, limiter=services.password_slots)


async def _with_new_password(
    services: Services,
    caller: Principal,
    action: str,
    change: Callable[[Session, str], User],
    *,
    details: dict[str, Any] | None = None,
) -> OneTimePassword:
    """Makes a password and the change that stores its hash."""
    password = new_secret()

    def make() -> User:
        password_hash = services.passwords.hash(password)
        return _changed(
            services, caller, action, lambda session: change(session, password_hash), details
        )

    user = await to_thread.run_sync(make, limiter=services.password_slots)
    return OneTimePassword(username=user.username, role=user.role, password=password)


def _changed(
    services: Services,
    caller: Principal,
    action: str,
    change: Change,
    details: dict[str, Any] | None = None,
) -> User:
    """Makes a change of a user and its audit event, in one transaction."""
    with transaction(services.engine) as session:
        user = change(session)
        audit.append_event(
            session,
            actor=caller.subject,
            action=action,
            subject=f"{USER_PREFIX}{user.username}",
            details=details or {},
            now=services.now(),
        )
    services.standings.forget_subject(f"{USER_PREFIX}{user.username}")
    return user


def _require_password(services: Services, username: str, password: str, *, peer: str) -> None:
    """Guessing with a stolen token costs the same waits as guessing without one."""
    throttles = [account(username), address(peer)]
    try:
        with throttled(services.engine, throttles, now=services.now, failure=WrongSecret):
            with transaction(services.engine) as session:
                stored = users.get_user(session, username).password_hash
            services.passwords.verify(stored, password)
    except WrongSecret:
        raise Problem(
            403, "wrong-password", "The password is wrong", detail="old is not the password"
        ) from None


def _never_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


def _view(user: User) -> UserView:
    return UserView(
        username=user.username, role=user.role, state=user.state, created_at=user.created_at
    )
