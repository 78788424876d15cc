"""Every route asks for a token and its scope, and the table here names them all."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

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
    ("PUT", "/models/breast-cancer/public-test"): "models:write",
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
    ("GET", "/exchange/roster"): "exchange",
    ("GET", "/exchange/models"): "exchange",
    ("PUT", "/exchange/rounds/11111111-2222-3333-4444-555555555555/upload"): "exchange",
    ("GET", "/exchange/rounds/11111111-2222-3333-4444-555555555555/cohort"): "exchange",
    ("GET", "/exchange/weights/" + "a" * 64): "exchange",
    ("GET", "/exchange/trainings/11111111-2222-3333-4444-555555555555/figures"): "exchange",
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
    answer = await api.client.get("/exchange/roster", headers=api.may("exchange"))
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/insufficient-scope"
