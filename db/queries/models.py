"""Registered models: one name, versions from 1."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, NotFound
from db.locks import MODEL_VERSIONS, hold
from db.models import JsonObject, Model


def add_model(session: Session, *, name: str, spec: JsonObject) -> Model:
    """Registers a model, or the next version of one whose specification has changed.

    Raises:
        AlreadyExists: the newest version has this very specification.
    """
    hold(session, MODEL_VERSIONS, name)
    newest = _find(session, name, version=None)
    if newest is not None and newest.spec == spec:
        raise AlreadyExists("model", f"{name} version {newest.version}")
    model = Model(name=name, version=newest.version + 1 if newest else 1, spec=spec)
    session.add(model)
    session.flush()
    return model


def get_model(
    session: Session,
    *,
    name: str | None = None,
    id: UUID | None = None,
    version: int | None = None,
) -> Model:
    """Returns a model by its id, or by its name: that version of it, or the newest one.

    Raises:
        NotFound: no such model or version.
        ValueError: neither name nor id is given, or both.
    """
    if (name is None) == (id is None):
        raise ValueError("get_model takes a name or an id")
    if name is None:
        model, key = session.get(Model, id), str(id)
    else:
        model, key = _find(session, name, version=version), name
    if version is not None:
        key = f"{key} version {version}"
        model = model if model is not None and model.version == version else None
    if model is None:
        raise NotFound("model", key)
    return model


def set_public_test(session: Session, model: Model, *, digest: str) -> Model:
    """Names the public test set that a version's trainings are scored on from now on."""
    model.public_test = digest
    session.flush()
    return model


def list_models(session: Session) -> Sequence[Model]:
    """Returns all versions of all models, by name and version."""
    return session.scalars(select(Model).order_by(Model.name, Model.version)).all()


def _find(session: Session, name: str, *, version: int | None) -> Model | None:
    query = select(Model).where(Model.name == name).order_by(Model.version.desc()).limit(1)
    if version is not None:
        query = query.where(Model.version == version)
    return session.scalars(query).one_or_none()
