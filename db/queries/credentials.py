"""Hospitals' OAuth clients; only the secret's SHA-256 is kept."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, NotFound
from db.models import Client
from db.queries.hospitals import get_hospital


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
