from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, NotFound
from db.queries import models
from db.session import transaction

pytestmark = pytest.mark.integration


def test_a_changed_specification_is_the_next_version(session: Session) -> None:
    first = models.add_model(session, name="heart", spec={"hidden": [64], "rate": 0.5})
    with pytest.raises(AlreadyExists, match="heart version 1"):
        models.add_model(session, name="heart", spec={"rate": 0.5, "hidden": [64]})
    second = models.add_model(session, name="heart", spec={"hidden": [32], "rate": 0.5})
    back = models.add_model(session, name="heart", spec=first.spec)
    models.add_model(session, name="breast", spec={})

    assert [first.version, second.version, back.version] == [1, 2, 3]
    assert models.get_model(session, name="heart") is back
    assert models.get_model(session, name="heart", version=2) is second
    assert models.get_model(session, id=first.id) is first
    assert [(m.name, m.version) for m in models.list_models(session)] == [
        ("breast", 1),
        ("heart", 1),
        ("heart", 2),
        ("heart", 3),
    ]


def test_versions_stay_in_order_when_many_register(engine: Engine) -> None:
    def register(width: int) -> int:
        with transaction(engine) as session:
            return models.add_model(session, name="heart", spec={"hidden": [width]}).version

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(register, range(6))) == [1, 2, 3, 4, 5, 6]


def test_an_unknown_model_is_named(session: Session) -> None:
    model = models.add_model(session, name="heart", spec={})
    with pytest.raises(NotFound, match="no model 'lung'"):
        models.get_model(session, name="lung")
    with pytest.raises(NotFound, match="heart version 2"):
        models.get_model(session, name="heart", version=2)
    with pytest.raises(NotFound, match="version 2"):
        models.get_model(session, id=model.id, version=2)
    with pytest.raises(NotFound):
        models.get_model(session, id=uuid4())
    with pytest.raises(ValueError, match="a name or an id"):
        models.get_model(session)
