"""The secrets of a first start, on a real database."""

from __future__ import annotations

import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.auth.bootstrap import ensure_operator
from api.auth.key_ring import KeyRing, ensure_key
from api.auth.passwords import Passwords
from db.queries.users import get_user
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


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
