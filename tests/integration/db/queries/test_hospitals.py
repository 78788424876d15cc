from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, Conflict, NotFound
from db.queries import credentials, hospitals, users

pytestmark = pytest.mark.integration

KEYS = {"signing_key": "a" * 64, "sealing_key": "b" * 64}


def test_a_hospital_may_be_invited_once_it_has_keys_and_while_it_is_active(
    session: Session, keys_of: Callable[[str], dict[str, str]]
) -> None:
    for hospital_id in ("west", "north", "east"):
        hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id)
    for hospital_id in ("west", "east"):
        hospitals.publish_identity(session, hospital_id=hospital_id, **keys_of(hospital_id))

    assert [h.id for h in hospitals.list_hospitals(session)] == ["east", "north", "west"]
    assert [h.id for h in hospitals.invitable_hospitals(session)] == ["east", "west"]

    hospitals.set_hospital_state(session, hospital_id="east", state="suspended")
    assert [h.id for h in hospitals.invitable_hospitals(session)] == ["west"]
    hospitals.set_hospital_state(session, hospital_id="east", state="active")
    assert [h.id for h in hospitals.invitable_hospitals(session)] == ["east", "west"]


def test_published_keys_stay(session: Session) -> None:
    hospitals.add_hospital(session, hospital_id="north", name="North")
    for _ in range(2):
        assert hospitals.publish_identity(session, hospital_id="north", **KEYS).signing_key

    with pytest.raises(Conflict, match="other keys") as refused:
        hospitals.publish_identity(
            session, hospital_id="north", signing_key="c" * 64, sealing_key="b" * 64
        )
    assert refused.value.rule == "identity-changed"


@pytest.mark.parametrize("name", ["signing_key", "sealing_key"])
def test_a_key_belongs_to_one_hospital(
    session: Session, keys_of: Callable[[str], dict[str, str]], name: str
) -> None:
    for hospital_id in ("north", "south"):
        hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id)
    hospitals.publish_identity(session, hospital_id="north", **keys_of("north"))
    stolen = {**keys_of("south"), name: keys_of("north")[name]}
    with pytest.raises(Conflict, match="north has published") as refused:
        hospitals.publish_identity(session, hospital_id="south", **stolen)
    assert refused.value.rule == "identity-taken"


def test_an_id_is_taken_once(session: Session) -> None:
    hospitals.add_hospital(session, hospital_id="north", name="North")
    with pytest.raises(AlreadyExists, match="'north'"):
        hospitals.add_hospital(session, hospital_id="north", name="Other")
    assert hospitals.get_hospital(session, "north").name == "North"


def test_an_unknown_hospital_is_named(session: Session) -> None:
    calls = [
        lambda: hospitals.get_hospital(session, "nowhere"),
        lambda: hospitals.publish_identity(session, hospital_id="nowhere", **KEYS),
        lambda: hospitals.set_hospital_state(session, hospital_id="nowhere", state="active"),
        lambda: credentials.add_client(
            session, client_id="c", secret_digest="a" * 64, hospital_id="nowhere"
        ),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="no hospital 'nowhere'"):
            call()


@pytest.mark.parametrize("hospital_id", ["", "North", "-x", "a b", "../x"])
def test_the_database_itself_refuses_an_odd_id(session: Session, hospital_id: str) -> None:
    with pytest.raises(IntegrityError, match="ck_hospitals_id"):
        hospitals.add_hospital(session, hospital_id=hospital_id, name="x")


def test_credentials_are_found_by_name(session: Session) -> None:
    hospitals.add_hospital(session, hospital_id="north", name="North")
    credentials.add_client(
        session, client_id="north-1", secret_digest="d" * 64, hospital_id="north"
    )
    users.add_user(session, username="ada", password_hash="$argon2id$", role="scientist")

    assert credentials.get_client(session, "north-1").hospital_id == "north"
    assert users.get_user(session, "ada").role == "scientist"
    with pytest.raises(AlreadyExists):
        users.add_user(session, username="ada", password_hash="$", role="operator")
    with pytest.raises(AlreadyExists):
        credentials.add_client(
            session, client_id="north-1", secret_digest="e" * 64, hospital_id="north"
        )
    with pytest.raises(NotFound):
        users.get_user(session, "eve")
    with pytest.raises(NotFound):
        credentials.get_client(session, "eve")
