"""New secrets and keys of a hospital: whenever it is stopped, one of the two works."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import rotation
from deployments.rotation import rotate_identity, rotate_secret, settle
from deployments.settings import StackSettings
from fl.joining import code_digest as sha256
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.site import SiteSettings, credential_file, open_site, read_credential
from tasks.hospital.tokens import Credential


class Coordinator:
    """Takes one secret and one pair of keys; ``loses`` is an answer that does not arrive."""

    def __init__(self, settings: SiteSettings) -> None:
        self.secret = sha256(secret_of(settings))
        self.keys = open_site(settings).identity.public
        self.loses = False
        self.refuses = False

    @contextmanager
    def client_of(self, credential: Credential) -> Any:
        self._shown = sha256(credential.client_secret.get_secret_value())
        yield self

    def roster(self) -> tuple[()]:
        self._admit()
        return ()

    def replace_secret(self, hospital_id: str, *, digest: str) -> None:
        self._admit()
        self.secret = digest
        self._answer()

    def replace_identity(self, hospital_id: str, replacement: dict[str, str]) -> None:
        self._admit()
        new = (replacement["signing_key"], replacement["sealing_key"])
        self.keys = type(self.keys).from_hex(signing_key=new[0], sealing_key=new[1])
        self._answer()

    def _admit(self) -> None:
        if self.refuses or self._shown != self.secret:
            raise ExchangeRefused("the credential is not accepted")

    def _answer(self) -> None:
        if self.loses:
            self.loses = False
            raise httpx.ReadError("lost")


def secret_of(settings: SiteSettings) -> str:
    return read_credential(settings).client_secret.get_secret_value()


@pytest.fixture
def place(settings: StackSettings, tmp_path: Path) -> SiteSettings:
    place = settings.site("north", tmp_path)
    content = json.dumps({"client_id": "north", "client_secret": "first"})
    credential_file(place).write_text(content)
    credential_file(place).chmod(0o600)
    return place


@pytest.fixture
def coordinator(place: SiteSettings) -> Coordinator:
    return Coordinator(place)


def assert_agree(coordinator: Coordinator, place: SiteSettings) -> None:
    assert coordinator.secret == sha256(secret_of(place))
    assert coordinator.keys == open_site(place).identity.public
    left = {path.name for path in credential_file(place).parent.glob("*next*")}
    assert left == set()


def test_a_new_secret_replaces_the_old_one(coordinator: Coordinator, place: SiteSettings) -> None:
    rotate_secret(place, coordinator.client_of)
    assert secret_of(place) != "first"
    assert len(secret_of(place)) == 43
    assert_agree(coordinator, place)
    (kept,) = (credential_file(place).parent / "replaced").iterdir()
    assert "first" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("arrived", [True, False])
def test_a_lost_answer_is_settled_by_the_next_call(
    coordinator: Coordinator,
    place: SiteSettings,
    monkeypatch: pytest.MonkeyPatch,
    arrived: bool,
) -> None:
    if arrived:
        coordinator.loses = True
    else:
        lost = httpx.ConnectError("away")
        monkeypatch.setattr(
            coordinator, "replace_secret", lambda *_, **__: (_ for _ in ()).throw(lost)
        )
    with pytest.raises(httpx.TransportError):
        rotate_secret(place, coordinator.client_of)
    assert secret_of(place) == "first"
    settle(place, coordinator.client_of)
    assert (secret_of(place) == "first") is not arrived
    assert_agree(coordinator, place)


def test_a_refused_rotation_leaves_the_old_secret(
    coordinator: Coordinator, place: SiteSettings
) -> None:
    coordinator.refuses = True
    with pytest.raises(ExchangeRefused, match="takes neither"):
        rotate_secret(place, coordinator.client_of)
    assert secret_of(place) == "first"
    coordinator.refuses = False
    settle(place, coordinator.client_of)
    assert secret_of(place) == "first"
    assert_agree(coordinator, place)


def test_nothing_to_settle_asks_nobody(place: SiteSettings) -> None:
    def nobody(credential: Credential) -> Any:
        raise AssertionError("asked")

    settle(place, nobody)


def test_new_keys_replace_the_old_ones(coordinator: Coordinator, place: SiteSettings) -> None:
    before = open_site(place)
    new = rotate_identity(place, coordinator.client_of)
    after = open_site(place)
    assert new == after.identity.public != before.identity.public
    assert after.split_key == before.split_key
    assert_agree(coordinator, place)


def test_keys_whose_answer_was_lost_are_told_again(
    coordinator: Coordinator, place: SiteSettings
) -> None:
    coordinator.loses = True
    with pytest.raises(httpx.ReadError):
        rotate_identity(place, coordinator.client_of)
    told = coordinator.keys
    assert rotate_identity(place, coordinator.client_of) == told
    assert_agree(coordinator, place)


def test_keys_of_which_one_was_moved_are_both_moved(
    coordinator: Coordinator, place: SiteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def install(new: Path, where: Path) -> None:
        if new.name.startswith("sealing"):
            raise Killed
        real(new, where)

    real = rotation.install
    with monkeypatch.context() as patched:
        patched.setattr(rotation, "install", install)
        with pytest.raises(Killed):
            rotate_identity(place, coordinator.client_of)
    settle(place, coordinator.client_of)
    assert_agree(coordinator, place)
