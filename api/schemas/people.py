"""Signing in, and the people who may."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from api.auth.passwords import LEAST_PASSWORD, LONGEST_PASSWORD
from api.schemas.base import Body, View
from db.models import Role, UserState

Username = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class TokenResponse(View):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - not a secret
    expires_in: int
    scope: str


class NewUser(Body):
    """A person to add."""

    username: Username
    role: Role


class RoleChange(Body):
    """Another role for a person."""

    role: Role


class PasswordChange(Body):
    """A person's own password: the one that counts now, and the next."""

    old: Annotated[SecretStr, Field(max_length=LONGEST_PASSWORD)]
    new: Annotated[SecretStr, Field(min_length=LEAST_PASSWORD, max_length=LONGEST_PASSWORD)]


class UserView(View):
    """A person who may sign in, or is suspended."""

    username: str
    role: Role
    state: UserState
    created_at: datetime


class OneTimePassword(View):
    """A generated password; it is shown this once."""

    username: str
    role: Role
    password: str
