"""``fedmed user`` and ``fedmed auth``, against a transport that answers as the API does."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from api.auth.key_ring import FIRST_KEY, ensure_key, list_keys, rotate
from db import models
from deployments import cli_user
from deployments.errors import ApiRefused, OperatorError
from deployments.operator import OperatorClient
from deployments.settings import StackSettings

ADA = {"username": "ada", "role": "scientist"}
MADE = {**ADA, "password": "generated"}
VIEW = {**ADA, "state": "active", "created_at": "2026-01-01T00:00:00Z"}


@pytest.fixture
def api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[httpx.Response], list[httpx.Request]]:
    """Has the API answer as it is told; returns the requests after the sign-in."""
    password_file = tmp_path / "operator.json"
    password_file.write_text(json.dumps({"username": "operator", "password": "pw"}))

    def answering(response: httpx.Response) -> list[httpx.Request]:
        seen: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/oauth/token":
                return httpx.Response(200, json={"access_token": "t"})
            seen.append(request)
            return response

        def connect(_: StackSettings) -> OperatorClient:
            http = httpx.Client(transport=httpx.MockTransport(handle), base_url="http://api")
            return OperatorClient(http, password_file)

        monkeypatch.setattr(OperatorClient, "connect", connect)
        return seen

    return answering


def test_it_knows_the_roles_that_people_have() -> None:
    assert [role.value for role in cli_user.Role] == list(get_args(models.Role))


def test_a_generated_password_is_shown_once(fedmed: Any, api: Any) -> None:
    seen = api(httpx.Response(201, json=MADE))
    shown = fedmed("user", "add", "ada", "--role", "scientist")
    assert shown.stdout.splitlines()[-1] == "generated"
    shown = fedmed("user", "reset-password", "ada")
    assert shown.stdout.splitlines()[-1] == "generated"
    assert [(r.method, r.url.path) for r in seen] == [
        ("POST", "/users"),
        ("POST", "/users/ada/password-reset"),
    ]
    assert json.loads(seen[0].content) == ADA
    assert seen[1].content == b""


@pytest.mark.parametrize(
    ("command", "path", "body", "line"),
    [
        (("suspend", "ada"), "/users/ada/suspend", None, "ada is suspended"),
        (("resume", "ada"), "/users/ada/resume", None, "ada may sign in again"),
        (
            ("role", "ada", "--role", "compliance"),
            "/users/ada/role",
            {"role": "compliance"},
            "ada is compliance now",
        ),
        (("suspend", "a/../b"), "/users/a%2F..%2Fb/suspend", None, "a/../b is suspended"),
    ],
)
def test_changes_a_person(
    fedmed: Any, api: Any, command: tuple[str, ...], path: str, body: Any, line: str
) -> None:
    seen = api(httpx.Response(200, json=VIEW))
    assert line in fedmed("user", *command).stdout
    (request,) = seen
    assert request.url.raw_path == path.encode()
    assert (json.loads(request.content) if request.content else None) == body


def test_lists_people(fedmed: Any, api: Any) -> None:
    api(httpx.Response(200, json=[VIEW]))
    rows = [line.split() for line in fedmed("user", "list").stdout.splitlines() if "ada" in line]
    assert rows == [["│", "ada", "│", "scientist", "│", "active", "│"]]


def test_what_the_api_refuses_is_said(fedmed: Any, api: Any) -> None:
    api(httpx.Response(409, json={"detail": "test is the last active operator"}))
    refused = fedmed("user", "suspend", "test").exception
    assert isinstance(refused, ApiRefused)
    assert "last active operator" in str(refused)


def test_a_role_that_is_none_is_a_usage_error(fedmed: Any) -> None:
    assert fedmed("user", "add", "ada", "--role", "root").exit_code == 2


def test_a_key_is_rotated_and_the_retired_ones_go(fedmed: Any, settings: StackSettings) -> None:
    ensure_key(settings.secrets)
    assert fedmed("auth", "rotate-key").stdout.startswith(f"made {settings.secrets}")
    assert len(list_keys(settings.secrets)) == 2  # tokens of the first may still be valid
    (settings.secrets / "signing-keys").joinpath(list_keys(settings.secrets)[-1].path.name).unlink()
    rotate(settings.secrets, now=datetime.now(UTC) - timedelta(days=2))
    shown = fedmed("auth", "rotate-key").stdout
    assert f"dropped {settings.secrets / FIRST_KEY}" in shown
    assert len(list_keys(settings.secrets)) == 2


def test_where_there_is_no_key_none_is_rotated(fedmed: Any, settings: StackSettings) -> None:
    refused = fedmed("auth", "rotate-key").exception
    assert isinstance(refused, OperatorError)
    assert f"no signing key is in {settings.secrets}" in str(refused)
    assert not settings.secrets.exists()


def test_a_directory_that_others_can_write_is_refused(fedmed: Any, settings: StackSettings) -> None:
    ensure_key(settings.secrets)
    keys = settings.secrets / "signing-keys"
    keys.mkdir()
    keys.chmod(0o777)
    refused = fedmed("auth", "rotate-key").exception
    assert isinstance(refused, OperatorError)
    assert "chmod 700" in str(refused)
