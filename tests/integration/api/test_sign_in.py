"""Tokens and first-start secrets on a real database."""

from __future__ import annotations

import base64
import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from jose import jwt

from api.auth.bootstrap import ensure_operator
from api.auth.key_ring import KeyRing, ensure_key, rotate
from api.auth.passwords import Passwords, new_secret
from api.auth.scopes import SCOPES_OF_ROLE
from api.auth.tokens import Tokens
from db.queries import hospitals
from db.queries.users import get_user
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def ask(api: Any, headers: dict[str, str] | None = None, **form: str) -> Any:
    return await api.client.post("/oauth/token", data=form, headers=headers)


def basic(client_id: str, secret: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def operator_file(api: Any) -> dict[str, str]:
    return json.loads((api.settings.secrets / "operator.json").read_text())


async def test_the_first_start_leaves_its_secrets_for_the_owner_only(api: Any) -> None:
    directory = api.settings.secrets
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in directory.iterdir()) == [
        "operator.json",
        "signing-key.pem",
    ]
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert operator_file(api)["token_url"] == "http://127.0.0.1:8000/oauth/token"


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


async def test_a_start_says_where_its_secrets_are_and_never_what_they_are(
    api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    said = "\n".join(record.getMessage() for record in caplog.get_records("setup"))
    assert str(api.settings.secrets / "operator.json") in said
    assert str(api.settings.secrets / "signing-key.pem") in said
    assert operator_file(api)["password"] not in said
    assert "PRIVATE" not in said


async def test_another_start_changes_nothing_but_the_address(api: Any) -> None:
    before, users = operator_file(api), api.contents()["users"]
    ensure_operator(
        api.engine,
        api.settings.secrets,
        passwords=Passwords(),
        token_url="https://moved.example/oauth/token",
    )
    assert operator_file(api) == {**before, "token_url": "https://moved.example/oauth/token"}
    assert api.contents()["users"] == users


async def test_a_password_that_was_moved_away_is_not_written_again(api: Any) -> None:
    path = api.settings.secrets / "operator.json"
    path.unlink()
    ensure_operator(
        api.engine, api.settings.secrets, passwords=Passwords(), token_url="http://x/oauth/token"
    )
    assert not path.exists()


def test_two_first_starts_at_once_agree(engine: Any, tmp_path: Any) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> str:
        together.wait()
        ensure_key(tmp_path)
        key = KeyRing(tmp_path, longest_lifetime_s=60).signing()
        ensure_operator(engine, tmp_path, passwords=Passwords(), token_url="http://x/oauth/token")
        return key.key_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1
    password = json.loads((tmp_path / "operator.json").read_text())["password"]
    with transaction(engine) as session:
        Passwords().verify(get_user(session, "operator").password_hash, password)


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


NEEDS = {
    ("POST", "/hospitals"): "hospitals:write",
    ("GET", "/hospitals"): "training:read",
    ("GET", "/hospitals/north"): "training:read",
    ("POST", "/hospitals/north/suspend"): "hospitals:write",
    ("POST", "/hospitals/north/readmit"): "hospitals:write",
    ("POST", "/hospitals/north/end"): "hospitals:write",
    ("PUT", "/hospitals/north/identity"): "exchange",
    ("POST", "/hospitals/north/identity"): "exchange",
    ("PUT", "/hospitals/north/credential"): "exchange",
    ("POST", "/hospitals/north/leave"): "exchange",
    ("POST", "/models"): "models:write",
    ("GET", "/models"): "training:read",
    ("GET", "/models/breast-cancer"): "training:read",
    ("POST", "/training/start"): "training:start",
    ("GET", "/training"): "training:read",
    ("GET", "/training/11111111-2222-3333-4444-555555555555"): "training:read",
    ("GET", "/training/status/11111111-2222-3333-4444-555555555555"): "training:read",
    ("GET", "/metrics/breast-cancer"): "metrics:read",
    ("GET", "/audit/events"): "audit:read",
    ("POST", "/users"): "users:write",
    ("GET", "/users"): "users:write",
    ("POST", "/users/ada/suspend"): "users:write",
    ("POST", "/users/ada/resume"): "users:write",
    ("POST", "/users/ada/role"): "users:write",
    ("POST", "/users/ada/password-reset"): "users:write",
    ("GET", "/exchange/work"): "exchange",
    ("GET", "/exchange/roster"): "exchange",
    ("GET", "/exchange/models"): "exchange",
    ("PUT", "/exchange/rounds/11111111-2222-3333-4444-555555555555/upload"): "exchange",
    ("GET", "/exchange/rounds/11111111-2222-3333-4444-555555555555/cohort"): "exchange",
    ("GET", "/exchange/weights/" + "a" * 64): "exchange",
}
ALL_SCOPES = frozenset(NEEDS.values())


async def test_every_route_asks_for_its_scope(api: Any) -> None:
    before = api.contents()
    for (method, path), scope in NEEDS.items():
        nobody = await api.client.request(method, path)
        assert nobody.status_code == 401, path
        assert nobody.headers["www-authenticate"] == 'Bearer realm="fedmed"'
        assert nobody.json()["type"] == "/problems/unauthorized"

        others = api.may(*(ALL_SCOPES - {scope}))
        wrong = await api.client.request(method, path, headers=others)
        assert wrong.status_code == 403, path
        assert wrong.json()["type"] == "/problems/insufficient-scope"
        assert 'error="insufficient_scope"' in wrong.headers["www-authenticate"]
        assert f'scope="{scope}"' in wrong.headers["www-authenticate"]
    assert api.contents() == before


async def test_a_hospital_reaches_no_route_of_people_whatever_its_token_says(api: Any) -> None:
    await api.add_hospital("north")
    before = api.contents()
    all_scopes = api.may(*ALL_SCOPES, hospital="north")
    for (method, path), scope in NEEDS.items():
        if scope != "exchange":
            answer = await api.client.request(method, path, headers=all_scopes)
            assert answer.status_code == 403, path
            assert answer.json()["type"] == "/problems/insufficient-scope"
    assert api.contents() == before


async def test_the_table_above_names_every_route(api: Any) -> None:
    document = (await api.client.get("/openapi.json")).json()
    open_to_all = {
        ("POST", "/oauth/token"),
        ("POST", "/oauth/revoke"),  # its form or its header authenticates
        ("POST", "/hospitals/join"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/health"),
    }
    guarded = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    }
    everything = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert everything - guarded == open_to_all
    of_anybody = {("PUT", "/users/me/password")}  # needs a token of a person, and no scope
    assert len(guarded - of_anybody) == len(NEEDS)
    flows = document["components"]["securitySchemes"]["OAuth2"]["flows"]
    assert flows["password"]["tokenUrl"] == "/oauth/token"
    assert "audit:read" in flows["password"]["scopes"]
    assert flows["clientCredentials"]["scopes"].keys() == {"exchange"}


async def test_a_header_that_is_none(api: Any) -> None:
    for header in ("Basic abc", "Bearer", "Bearer ", "Bearer a b", "Token x", "ä"):
        answer = await api.client.get("/models", headers={"Authorization": header.encode()})
        assert answer.status_code == 401, header


async def test_a_wrong_token_is_named_as_such(api: Any) -> None:
    answer = await api.client.get("/models", headers={"Authorization": "Bearer e30.e30.e30"})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert "e30" not in answer.text


async def test_the_exchange_is_for_hospitals(api: Any) -> None:
    # A token that says more than its user's role allows counts for no more than that.
    answer = await api.client.get("/exchange/work", headers=api.may("exchange"))
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/insufficient-scope"
