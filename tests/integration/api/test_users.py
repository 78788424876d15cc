"""People: adding, suspending, roles, passwords, and what the audit record says of it."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def operate(api: Any, path: str, **body: Any) -> Any:
    return await api.client.post(f"/users{path}", json=body, headers=api.may("users:write"))


async def add(api: Any, username: str = "ada", role: str = "scientist") -> str:
    added = await operate(api, "", username=username, role=role)
    assert added.status_code == 201, added.text
    assert added.headers["cache-control"] == "no-store"
    assert {key: added.json()[key] for key in ("username", "role")} == {
        "username": username,
        "role": role,
    }
    return str(added.json()["password"])


async def sign_in(api: Any, username: str, password: str) -> Any:
    form = {"grant_type": "password", "username": username, "password": password}
    return await api.client.post("/oauth/token", data=form)


async def token_of(api: Any, username: str, password: str) -> dict[str, str]:
    answer = await sign_in(api, username, password)
    assert answer.status_code == 200, answer.text
    return bearer(answer.json()["access_token"])


async def change_password(api: Any, header: dict[str, str], old: str, new: str) -> Any:
    body = {"old": old, "new": new}
    return await api.client.put("/users/me/password", json=body, headers=header)


async def events(api: Any) -> list[tuple[str, str, str, Any]]:
    found = await api.get("/audit/events", "audit:read")
    return [(e["actor"], e["action"], e["subject"], e["details"]) for e in found]


@pytest.mark.parametrize("role", ["operator", "scientist", "compliance"])
async def test_a_person_signs_in_with_the_generated_password(api: Any, role: str) -> None:
    password = await add(api, role=role)
    header = await token_of(api, "ada", password)
    assert (await api.client.get("/models", headers=header)).status_code == 200
    listed = await api.get("/users", "users:write")
    assert {u["username"]: (u["role"], u["state"]) for u in listed} == {
        "ada": (role, "active"),
        "operator": ("operator", "active"),
        "test": ("operator", "active"),
    }
    assert not any("hash" in key or "password" in key for user in listed for key in user)


async def test_a_name_is_given_once_and_is_plain(api: Any) -> None:
    await add(api)
    before = api.contents()
    again = await operate(api, "", username="ada", role="operator")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/already-exists")
    for name in ("", "Ada", "a b", "a:b", "a/b", "-a", "a" * 64, "ä", "a\0", 7, None):
        refused = await operate(api, "", username=name, role="operator")
        assert refused.status_code == 422, name
    for role in ("hospital", "root", None):
        assert (await operate(api, "", username="eve", role=role)).status_code == 422
    assert api.contents() == before


async def test_all_is_audited_and_no_secret_is(api: Any) -> None:
    first = await add(api)
    await operate(api, "/ada/role", role="compliance")
    second = (await operate(api, "/ada/password-reset")).json()["password"]
    header = await token_of(api, "ada", second)
    changed = await change_password(api, header, second, "a whole new sentence")
    assert changed.status_code == 204, changed.text
    await operate(api, "/ada/suspend")
    await operate(api, "/ada/resume")
    found = await events(api)
    assert found == [
        ("user:test", "user.added", "user:ada", {"role": "scientist"}),
        ("user:test", "user.role-changed", "user:ada", {"role": "compliance"}),
        ("user:test", "user.password-reset", "user:ada", {}),
        ("user:ada", "user.password-changed", "user:ada", {}),
        ("user:test", "user.suspended", "user:ada", {}),
        ("user:test", "user.resumed", "user:ada", {}),
    ]
    assert not any(secret in str(found) for secret in (first, second, "sentence"))


async def test_a_suspended_person_is_out_until_taken_back(api: Any) -> None:
    password = await add(api)
    header = await token_of(api, "ada", password)
    suspended = await operate(api, "/ada/suspend")
    assert suspended.json()["state"] == "suspended"
    assert (await api.client.get("/models", headers=header)).status_code == 401
    refused = await sign_in(api, "ada", password)
    assert refused.json()["error"] == "invalid_grant"
    assert "suspended" in refused.json()["error_description"]
    wrong = await sign_in(api, "ada", "wrong")
    assert "suspended" not in wrong.text  # only who knows the password learns it
    await operate(api, "/ada/resume")
    assert (await api.client.get("/models", headers=header)).status_code == 401
    await token_of(api, "ada", password)


async def test_a_reset_ends_the_tokens_and_the_password_of_before(api: Any) -> None:
    password = await add(api)
    header = await token_of(api, "ada", password)
    reset = await operate(api, "/ada/password-reset")
    assert reset.headers["cache-control"] == "no-store"
    assert (await api.client.get("/models", headers=header)).status_code == 401
    assert (await sign_in(api, "ada", password)).status_code == 400
    await token_of(api, "ada", reset.json()["password"])


async def test_the_last_active_operator_stays(api: Any) -> None:
    assert (await operate(api, "/operator/suspend")).status_code == 200
    before = api.contents()
    for path, body in [("/test/suspend", {}), ("/test/role", {"role": "scientist"})]:
        refused = await operate(api, path, **body)
        assert refused.status_code == 409
        assert refused.json()["errors"][0]["rule"] == "last-operator"
    assert api.contents() == before
    assert (await operate(api, "/test/role", role="operator")).status_code == 200
    await add(api, "ada", "operator")
    assert (await operate(api, "/test/suspend")).status_code == 200


async def test_nobody_can_be_changed_who_is_not_there(api: Any) -> None:
    before = api.contents()
    for path in ("suspend", "resume", "password-reset", "role"):
        answer = await operate(api, f"/nobody/{path}", role="operator")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-user")
    assert (await operate(api, "/a%00b/suspend")).status_code == 422
    assert api.contents() == before


async def test_a_person_changes_the_own_password(api: Any) -> None:
    old = await add(api)
    header = await token_of(api, "ada", old)
    new = "correct horse battery"
    changed = await change_password(api, header, old, new)
    assert (changed.status_code, changed.content) == (204, b"")
    assert (await api.client.get("/models", headers=header)).status_code == 401
    assert (await sign_in(api, "ada", old)).status_code == 400
    await token_of(api, "ada", new)


@pytest.mark.parametrize("new", ["", "elevenchars", "I am Ada, Countess", "x" * 1025, 7, None])
async def test_a_weak_password_is_refused(api: Any, new: Any) -> None:
    old = await add(api)
    header = await token_of(api, "ada", old)
    before = api.contents()
    refused = await change_password(api, header, old, new)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["new"]
    assert "Countess" not in refused.text
    assert api.contents() == before


async def test_a_stolen_token_does_not_let_one_guess_the_password(api: Any) -> None:
    header = await token_of(api, "ada", await add(api))
    for _ in range(5):
        wrong = await change_password(api, header, "a guess", "correct horse battery")
        assert (wrong.status_code, wrong.json()["type"]) == (403, "/problems/wrong-password")
    waits = await change_password(api, header, "a guess", "correct horse battery")
    assert (waits.status_code, waits.json()["type"]) == (429, "/problems/too-many-failures")
    assert waits.headers["retry-after"] == "1"


async def test_who_has_no_password_here_cannot_change_one(api: Any) -> None:
    await api.add_hospital("north")
    answer = await change_password(api, api.may(hospital="north"), "x", "correct horse battery")
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/no-password")
    assert (await change_password(api, {}, "x", "correct horse battery")).status_code == 401
