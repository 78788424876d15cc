"""People who sign in with a password; only its argon2id hash is kept.

    add_user(session, username="ada", password_hash=hashed, role="scientist")

A change that takes something away begins the user's next generation, so that the tokens of the last
are refused; every change wakes the processes that keep users' standing in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, Conflict, NotFound
from db.models import Role, User, UserState
from db.notify import USERS, notify

OPERATOR: Role = "operator"


def add_user(session: Session, *, username: str, password_hash: str, role: Role) -> User:
    """Adds an active user.

    Raises:
        AlreadyExists: the name is taken.
    """
    added = session.scalars(
        insert(User)
        .values(username=username, password_hash=password_hash, role=role)
        .on_conflict_do_nothing(index_elements=[User.username])
        .returning(User)
    ).one_or_none()
    if added is None:
        raise AlreadyExists("user", username)
    return added


def get_user(session: Session, username: str) -> User:
    """Returns a user by name.

    Raises:
        NotFound: no such user.
    """
    user = session.scalars(select(User).where(User.username == username)).one_or_none()
    if user is None:
        raise NotFound("user", username)
    return user


def list_users(session: Session) -> Sequence[User]:
    """Returns all users by name."""
    return session.scalars(select(User).order_by(User.username)).all()


def set_user_state(session: Session, *, username: str, state: UserState) -> User:
    """Suspends a user, whose tokens are refused from then on, or takes one back.

    Raises:
        NotFound: no such user.
        Conflict: the last active operator cannot be suspended.
    """
    operators = _locked_operators(session)
    user = _locked(session, username)
    if state == "suspended":
        _refuse_last_operator(user, operators=operators)
        user.generation += 1
    user.state = state
    return _changed(session, user)


def set_user_role(session: Session, *, username: str, role: Role) -> User:
    """Gives a user another role; tokens lose at once what it does not allow.

    Raises:
        NotFound: no such user.
        Conflict: the last active operator stays one.
    """
    operators = _locked_operators(session)
    user = _locked(session, username)
    if role != OPERATOR:
        _refuse_last_operator(user, operators=operators)
    user.role = role
    return _changed(session, user)


def set_password(session: Session, *, username: str, password_hash: str) -> User:
    """Replaces a user's password; the tokens that the last one got are refused from then on.

    Raises:
        NotFound: no such user.
    """
    user = _locked(session, username)
    user.password_hash = password_hash
    user.generation += 1
    return _changed(session, user)


def _locked(session: Session, username: str) -> User:
    user = session.scalars(
        select(User)
        .where(User.username == username)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if user is None:
        raise NotFound("user", username)
    return user


def _locked_operators(session: Session) -> set[str]:
    """Locks the active operators, in one order, so that two cannot suspend each other."""
    return set(
        session.scalars(
            select(User.username)
            .where(User.role == OPERATOR, User.state == "active")
            .order_by(User.id)
            .with_for_update()
        )
    )


def _refuse_last_operator(user: User, *, operators: set[str]) -> None:
    if operators == {user.username}:
        raise Conflict(
            "last-operator",
            f"{user.username} is the last active operator: add another operator first",
        )


def _changed(session: Session, user: User) -> User:
    session.flush()
    notify(session, round_id=None, hospital_id="", kind=USERS)
    return user
