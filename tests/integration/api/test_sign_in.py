"""Signing in on a real database: who gets a token, and of what kind."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jose import jwt

from api.auth.key_ring import KeyRing, rotate
from api.auth.passwords import new_secret
from api.auth.scopes import SCOPES_OF_ROLE
from api.auth.tokens import Tokens
from db.queries import hospitals
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def ask(api: Any, headers: dict[str, str] | None = None, **form: str) -> Any:
    return await api.client.post("/oauth/token", data=form, headers=headers)


def basic(client_id: str, secret: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def operator_file(api: Any) -> dict[str, str]:
    return json.loads((api.settings.secrets / "operator.json").read_text())


async def test_the_operator_signs_in_with_the_password_of_the_file(api: Any) -> None:
    operator = operator_file(api)
    answer = await ask(
        api, grant_type="password", username="operator", password=operator["password"]
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 1800
    assert set(token["scope"].split()) == SCOPES_OF_ROLE["operator"]
    listed = await api.client.get(
        "/hospitals", headers={"Authorization": f"bearer {token['access_token']}"}
    )
    assert listed.status_code == 200


async def test_publishes_the_key_that_verifies(api: Any) -> None:
    answer = await api.client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    (key,) = answer.json()["keys"]
    claims = jwt.decode(
        api.token("training:read"), key, algorithms=["ES256"], audience=api.settings.audience
    )
    assert claims["iss"] == api.settings.token_issuer
    assert "d" not in key


async def test_a_new_key_is_taken_up_while_the_api_runs(api: Any) -> None:
    old = api.may("training:read")
    rotate(api.settings.secrets, now=datetime.now(UTC))
    # Another process signs with it before this one has looked.
    other = Tokens(
        KeyRing(api.settings.secrets, longest_lifetime_s=60),
        issuer=api.settings.token_issuer,
        audience=api.settings.audience,
        lifetime_s=60,
    )
    new = other.issue(subject="user:test", scopes=frozenset({"training:read"}), generation=1)
    for header in (old, {"Authorization": f"Bearer {new}"}):
        assert (await api.client.get("/models", headers=header)).status_code == 200
    published = (await api.client.get("/.well-known/jwks.json")).json()["keys"]
    assert len({key["kid"] for key in published}) == 2
    assert jwt.get_unverified_header(api.token())["kid"] == published[-1]["kid"]


@pytest.mark.parametrize("role", ["operator", "scientist", "compliance"])
async def test_a_role_has_its_scopes(api: Any, add_user: Any, role: str) -> None:
    add_user("ada", "correct horse", role)
    answer = await ask(api, grant_type="password", username="ada", password="correct horse")
    assert set(answer.json()["scope"].split()) == SCOPES_OF_ROLE[role]
    assert jwt.get_unverified_claims(answer.json()["access_token"])["sub"] == "user:ada"


async def test_scopes_can_be_narrowed_but_not_widened(api: Any, add_user: Any) -> None:
    add_user("ada", "correct horse", "compliance")
    form = {"grant_type": "password", "username": "ada", "password": "correct horse"}
    narrowed = await ask(api, **form, scope="audit:read")
    assert narrowed.json()["scope"] == "audit:read"
    widened = await ask(api, **form, scope="audit:read training:start")
    assert widened.status_code == 400
    assert widened.json()["error"] == "invalid_scope"


@pytest.mark.parametrize("way", ["form", "basic"])
async def test_a_hospital_signs_in_with_its_secret(api: Any, way: str) -> None:
    added = await api.add_hospital("north", with_keys=False)
    credential = {key: added[key] for key in ("client_id", "client_secret")}
    if way == "form":
        answer = await ask(api, grant_type="client_credentials", **credential)
    else:
        answer = await ask(api, basic(*credential.values()), grant_type="client_credentials")
    assert answer.status_code == 200, answer.text
    claims = jwt.get_unverified_claims(answer.json()["access_token"])
    assert claims["sub"] == "hospital:north"
    assert claims["hospital_id"] == "north"
    assert claims["scope"] == "exchange"
    assert (claims["gen"], claims["client_id"]) == (1, "north")
    assert answer.json()["expires_in"] == claims["exp"] - claims["iat"] == 300


WRONG = new_secret()


FORMS: list[tuple[dict[str, str], dict[str, str], int, str]] = [
    ({}, {}, 400, "invalid_request"),
    ({"grant_type": ""}, {}, 400, "invalid_request"),
    ({"grant_type": "authorization_code"}, {}, 400, "unsupported_grant_type"),
    ({"grant_type": "password", "password": WRONG}, {}, 400, "invalid_request"),
    ({"grant_type": "password", "username": "operator"}, {}, 400, "invalid_request"),
    (
        {"grant_type": "password", "username": "operator", "password": WRONG},
        {},
        400,
        "invalid_grant",
    ),
    ({"grant_type": "password", "username": "nobody", "password": WRONG}, {}, 400, "invalid_grant"),
    ({"grant_type": "password", "username": "'; --", "password": WRONG}, {}, 400, "invalid_grant"),
    ({"grant_type": "client_credentials"}, {}, 401, "invalid_client"),
    ({"grant_type": "client_credentials", "client_id": "north"}, {}, 401, "invalid_client"),
    (
        {"grant_type": "client_credentials", "client_id": "north", "client_secret": WRONG},
        {},
        401,
        "invalid_client",
    ),
    (
        {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": WRONG},
        {},
        401,
        "invalid_client",
    ),
    ({"grant_type": "client_credentials"}, basic("north", WRONG), 401, "invalid_client"),
    (
        {"grant_type": "client_credentials", "client_secret": WRONG},
        basic("north", WRONG),
        400,
        "invalid_request",
    ),
    ({"grant_type": "client_credentials"}, {"Authorization": "Basic !"}, 401, "invalid_client"),
    (
        {"grant_type": "client_credentials"},
        {"Authorization": "Basic " + "ab" * 2},
        401,
        "invalid_client",
    ),
    (
        {"grant_type": "client_credentials"},
        {"Authorization": "Basic bm9ydGg="},
        401,
        "invalid_client",
    ),
    ({"grant_type": "client_credentials"}, basic("a%00b", WRONG), 401, "invalid_client"),
]


async def test_errors_have_the_form_of_rfc_6749(api: Any) -> None:
    await api.add_hospital("north", with_keys=False)
    before = api.contents()
    for form, headers, status, error in FORMS:
        answer = await ask(api, headers, **form)
        assert answer.status_code == status, (form, answer.text)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert set(answer.json()) == {"error", "error_description"}
        assert answer.json()["error"] == error, form
        assert answer.headers.get("www-authenticate", "").startswith("Basic") == (status == 401)
        assert WRONG not in answer.text
    assert api.contents() == before


async def test_a_body_of_another_kind_is_refused(api: Any) -> None:
    answer = await api.client.post("/oauth/token", json={"grant_type": "password"})
    assert answer.json()["error"] == "invalid_request"
    too_long = await api.client.post("/oauth/token", content=b"a" * 20_000)
    assert too_long.status_code == 413


async def test_a_suspended_hospital_gets_no_token(api: Any) -> None:
    added = await api.add_hospital("north")
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="suspended")
    credential = {key: added[key] for key in ("client_id", "client_secret")}
    answer = await ask(api, grant_type="client_credentials", **credential)
    assert answer.status_code == 400
    assert answer.json()["error"] == "unauthorized_client"
