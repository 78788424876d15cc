"""A hospital's side of joining: stopped at any write and run again, it ends as one that was not."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deployments.errors import OperatorError
from deployments.joining import Joining, checked_address, join
from fl.joining import code_digest, join_statement, new_join_code, parse_join_code
from tasks.hospital.site import SiteSettings, open_site, read_credential
from tasks.hospital.site_file import read_site_file

CODE = parse_join_code(new_join_code())


class Coordinator:
    """Takes each code once, and the same keys again, as `db.queries.memberships.join` does."""

    def __init__(self) -> None:
        self.member: dict[str, str] | None = None
        self.answers_lost = 0
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/hospitals/join"
        shown: dict[str, str] = json.loads(request.content)
        statement = join_statement(
            code_digest=code_digest(shown["code"]),
            signing_key=shown["signing_key"],
            sealing_key=shown["sealing_key"],
            secret_digest=shown["client_secret_sha256"],
        )
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(shown["signing_key"]))
        key.verify(bytes.fromhex(shown["proof"]), statement)
        if self.status != 200:
            return httpx.Response(self.status, json={"detail": "not now"})
        if self.member not in (None, shown):
            return httpx.Response(410, json={"detail": "this join code cannot be used"})
        self.member = shown
        if self.answers_lost:
            self.answers_lost -= 1
            raise httpx.ReadError("lost", request=request)
        answer = {"hospital_id": "north", "client_id": "north", "name": "North", "roster": []}
        return httpx.Response(200, json=answer)

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self))


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def plan(hospitals: Path, **changes: Any) -> Joining:
    values = {"api_url": "http://127.0.0.1:1", "code": CODE, "hospitals": hospitals}
    return Joining(**values | changes)


def settings(hospitals: Path) -> SiteSettings:
    return SiteSettings(
        hospital_id="north",
        hospital_home=hospitals / "north",
        data_path=hospitals,
        api_url="http://127.0.0.1:1",
    )


def assert_joined(coordinator: Coordinator, hospitals: Path) -> None:
    """The site holds what the coordinator was shown, and no secret lies elsewhere."""
    site = open_site(settings(hospitals))
    assert coordinator.member is not None
    assert site.identity.public.signing_key.hex() == coordinator.member["signing_key"]
    assert site.identity.public.sealing_key.hex() == coordinator.member["sealing_key"]
    secret = read_credential(site.settings).client_secret.get_secret_value()
    assert code_digest(secret) == coordinator.member["client_secret_sha256"]  # SHA-256 as well
    found = read_site_file(hospitals / "north")
    assert found is not None
    assert (found.hospital_id, found.api_url) == ("north", "http://127.0.0.1:1")
    assert list((hospitals / ".joining").iterdir()) == []
    for path in (hospitals / "north").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_it_makes_its_keys_and_its_secret_itself(coordinator: Coordinator, tmp_path: Path) -> None:
    with coordinator.client() as client:
        site = join(plan(tmp_path, data_path=tmp_path / "table.csv"), client)
    assert site.data_path == tmp_path / "table.csv"
    assert_joined(coordinator, tmp_path)
    secret = read_credential(settings(tmp_path)).client_secret.get_secret_value()
    assert secret not in json.dumps(coordinator.member)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_before(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Ends the process before its ``number``-th change of a name on the disk."""
    done: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if len(done) == number:
                raise Killed(name)
            done.append(name)
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in ("link", "replace", "fsync"):
            patched.setattr(os, name, counted(name))
        yield done


@pytest.mark.parametrize("replaces", [False, True])
def test_killed_at_any_write_and_run_again_it_has_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    number = 0
    while True:
        coordinator, hospitals = Coordinator(), tmp_path / str(number)
        before = None
        if replaces:
            with coordinator.client() as client:
                join(plan(hospitals, code=parse_join_code(new_join_code())), client)
            before = open_site(settings(hospitals))
            coordinator.member = None
        joining = plan(hospitals, again=replaces)
        killed = False
        with coordinator.client() as client:
            with killed_before(number, monkeypatch):
                try:
                    join(joining, client)
                except Killed:
                    killed = True
            join(joining, client)
        assert_joined(coordinator, hospitals)
        if before is not None:
            after = open_site(settings(hospitals))
            assert after.split_key == before.split_key  # the same rows are held out
            kept = hospitals / "north" / "keys" / "replaced"
            old = before.identity.signing.private_bytes_raw()
            assert old in [path.read_bytes() for path in kept.glob("signing.key.*")]
        if not killed:
            break
        number += 1
    assert number > 15


def test_what_must_not_be_lost_is_on_the_disk_before_the_code_is_spent(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.answers_lost = 1
    with coordinator.client() as client:
        with pytest.raises(OperatorError, match="run the same command again"):
            join(plan(tmp_path), client)
        assert coordinator.member is not None
        join(plan(tmp_path), client)
    assert_joined(coordinator, tmp_path)


def test_the_same_command_once_more_changes_nothing(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    with coordinator.client() as client:
        first = join(plan(tmp_path), client)
        assert join(plan(tmp_path), client) == first
    assert_joined(coordinator, tmp_path)


def test_keys_that_are_there_are_replaced_only_when_told(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    with coordinator.client() as client:
        join(plan(tmp_path), client)
        before = open_site(settings(tmp_path)).identity.public
        coordinator.member = None
        other = plan(tmp_path, code=parse_join_code(new_join_code()))
        with pytest.raises(OperatorError, match="--again"):
            join(other, client)
        assert open_site(settings(tmp_path)).identity.public == before
        join(plan(tmp_path, code=other.code, again=True), client)
    assert_joined(coordinator, tmp_path)


@pytest.mark.parametrize(
    ("status", "text"), [(410, "not now"), (422, "not now"), (503, "run the same command again")]
)
def test_a_refusal_is_one_line(
    coordinator: Coordinator, tmp_path: Path, status: int, text: str
) -> None:
    coordinator.status = status
    with coordinator.client() as client, pytest.raises(OperatorError, match=text):
        join(plan(tmp_path), client)
    assert not (tmp_path / "north").exists()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"hospital_id": "../x"}'])
def test_what_is_no_coordinator_makes_no_site(tmp_path: Path, body: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with httpx.Client(transport=transport) as client:
        with pytest.raises(OperatorError, match="is no coordinator"):
            join(plan(tmp_path), client)
    assert [path.name for path in tmp_path.iterdir()] == [".joining"]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://fedmed.example.org", "not encrypted"),
        ("http://10.0.0.1:8000", "not encrypted"),
        ("http://127.0.0.1.example.org", "not encrypted"),
        ("fedmed.example.org", "no address"),
        ("ftp://fedmed.example.org", "no address"),
        ("https://", "no address"),
        ("https://user:pw@fedmed.example.org", "no user or password"),
    ],
)
def test_an_address_that_protects_nothing_is_refused(address: str, text: str) -> None:
    with pytest.raises(OperatorError, match=text):
        checked_address(address)


@pytest.mark.parametrize(
    "address",
    ["https://fedmed.example.org/", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:80"],
)
def test_an_address_that_is_protected_is_taken(address: str) -> None:
    assert checked_address(address) == address.rstrip("/")
    plain = "http://10.0.0.1"
    assert checked_address(plain, allow_plain_http=True) == plain
