"""People who sign in and hospitals' OAuth clients; only hashes are kept."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, NotFound
from db.models import Client, Role, User
from db.queries.hospitals import get_hospital


def add_user(session: Session, *, username: str, password_hash: str, role: Role) -> User:
    """Adds a user.

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


def add_client(session: Session, *, client_id: str, secret_digest: str, hospital_id: str) -> Client:
    """Adds a hospital's client credential; ``secret_digest`` is the secret's SHA-256, hex.

    Raises:
        NotFound: no such hospital.
        AlreadyExists: the client's id is taken.
    """
    get_hospital(session, hospital_id)
    added = session.scalars(
        insert(Client)
        .values(client_id=client_id, secret_digest=secret_digest, hospital_id=hospital_id)
        .on_conflict_do_nothing(index_elements=[Client.client_id])
        .returning(Client)
    ).one_or_none()
    if added is None:
        raise AlreadyExists("client", client_id)
    return added


def get_client(session: Session, client_id: str) -> Client:
    """Returns a client by its public id.

    Raises:
        NotFound: no such client.
    """
    client = session.scalars(select(Client).where(Client.client_id == client_id)).one_or_none()
    if client is None:
        raise NotFound("client", client_id)
    return client
