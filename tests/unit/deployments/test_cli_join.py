"""`fedmed hospital join`, and the commands that need no --hospital-id once it has run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from deployments import cli_join, joining
from deployments.checks import every
from deployments.checks.report import Check, Place, fail, ok
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.joining import new_join_code
from privacy.secagg import Identity
from tasks.hospital.exchange import ExchangeClient, PublishedIdentity
from tasks.hospital.policy import policy_file
from tasks.hospital.site import open_site
from tasks.hospital.site_file import read_site_file

URL = "http://127.0.0.1:1"


class FakeExchange:
    """As much of the exchange's client as is called."""

    def __init__(self) -> None:
        self.members = {"east": Identity.generate(), "west": Identity.generate()}
        self.left: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def roster(self) -> tuple[PublishedIdentity, ...]:
        return tuple(
            PublishedIdentity(
                hospital_id=name,
                signing_key=identity.public.signing_key.hex(),
                sealing_key=identity.public.sealing_key.hex(),
            )
            for name, identity in self.members.items()
        )

    def leave(self, hospital_id: str) -> None:
        self.left.append(hospital_id)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    fake = FakeExchange()
    monkeypatch.setattr(ExchangeClient, "connect", lambda *_, **__: fake)
    monkeypatch.setattr(every, "CHECKS", [Check("sky", lambda _: [ok("blue")])])
    answer = {"hospital_id": "north", "client_id": "north", "name": "North", "roster": []}
    monkeypatch.setattr(joining, "_answer_to", lambda *_: joining.Answer.model_validate(answer))
    return fake


@pytest.fixture
def join(fedmed: Any, exchange: FakeExchange, tmp_path: Path) -> Any:
    (tmp_path / "table.csv").touch()

    def run(*options: str, code: str | None = None, **answer: str) -> Any:
        place = ("--data-path", str(tmp_path / "table.csv"))
        return fedmed("hospital", "join", URL, code or new_join_code(), *place, *options, **answer)

    return run


def accepted(settings: StackSettings, tmp_path: Path) -> set[str]:
    return set(open_site(settings.site("north", tmp_path)).store.pinned_identities())


def test_one_command_leaves_a_site_a_policy_and_a_check(
    join: Any, settings: StackSettings, tmp_path: Path
) -> None:
    done = join()
    assert done.exit_code == 0, done.output
    site = open_site(settings.site("north", tmp_path))
    assert site.identity.public.fingerprint() in done.output
    assert "ok    sky          blue" in done.output
    assert policy_file(site.settings).exists()
    found = read_site_file(site.settings.hospital_home)
    assert found is not None
    assert (found.api_url, found.data_path) == (URL, tmp_path / "table.csv")


def test_nobody_is_accepted_unasked(
    join: Any, settings: StackSettings, tmp_path: Path, exchange: FakeExchange
) -> None:
    done = join()
    assert accepted(settings, tmp_path) == set()
    for name, identity in exchange.members.items():
        assert f"{name}  {identity.public.fingerprint()}" in done.output
        assert f"fedmed hospital accept {name} FINGERPRINT" in done.output


def test_a_person_accepts_each_by_its_fingerprint(
    join: Any, settings: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    class Sys:
        stdin = Terminal()

    monkeypatch.setattr(cli_join, "sys", Sys)
    assert join(answer="y\nn\n").exit_code == 0
    assert accepted(settings, tmp_path) == {"east"}


def test_all_are_accepted_when_told(join: Any, settings: StackSettings, tmp_path: Path) -> None:
    assert join("--accept-all").exit_code == 0
    assert accepted(settings, tmp_path) == {"east", "west"}


def test_changed_keys_are_never_accepted_with_the_others(
    join: Any, settings: StackSettings, tmp_path: Path, exchange: FakeExchange
) -> None:
    code = new_join_code()
    join("--accept-all", code=code)
    before = open_site(settings.site("north", tmp_path)).store.pinned_identities()
    exchange.members["east"] = Identity.generate()
    done = join("--accept-all", code=code)
    assert "east is shown with OTHER keys" in done.output
    assert open_site(settings.site("north", tmp_path)).store.pinned_identities() == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("http://fedmed.example.org", "CODE"), "is not encrypted"),
        ((URL, "2VG1-FTJH"), "has 28 characters"),
        ((URL, "CODE", "--accept-all", "--accept-none"), "exclude each other"),
        (("https://h", "CODE", "--ca-file", __file__), "--ca-file"),
    ],
)
def test_a_mistake_is_one_line(fedmed: Any, arguments: tuple[str, ...], text: str) -> None:
    code = new_join_code()
    done = fedmed("hospital", "join", *(code if a == "CODE" else a for a in arguments))
    assert isinstance(done.exception, OperatorError)
    assert text in str(done.exception)


def test_a_failed_check_is_exit_code_1(join: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: Place) -> Any:
        raise ValueError("no sky")

    checks = [Check("sky", broken), Check("sea", lambda _: [fail("dry")])]
    monkeypatch.setattr(every, "CHECKS", checks)
    done = join()
    assert done.exit_code == 1
    assert "fail  sky          ValueError: no sky" in done.output
    assert "fail  sea          dry" in done.output


def test_afterwards_no_command_needs_an_id(join: Any, fedmed: Any, exchange: FakeExchange) -> None:
    join()
    for command in ("identity", "peers", "policy", "approvals", "check"):
        done = fedmed("hospital", command)
        assert done.exit_code == 0, (command, done.exception)
    assert "reserved" in fedmed("hospital", "ledger", "show").output.lower()


def test_with_none_or_several_hospitals_it_is_said_which(
    join: Any, fedmed: Any, settings: StackSettings
) -> None:
    none = fedmed("hospital", "identity").exception
    assert "`fedmed hospital join`" in str(none)
    join()
    home = settings.home / "hospitals"
    (home / "south").mkdir()
    (home / "south" / "site.json").write_text('{"hospital_id": "south", "api_url": "http://h"}')
    several = fedmed("hospital", "identity").exception
    assert isinstance(several, OperatorError)
    assert "(north, south): say --hospital-id" in str(several)
    assert fedmed("hospital", "identity", "--hospital-id", "north").exit_code == 0


def test_a_hospital_leaves_when_a_person_says_so(
    join: Any, fedmed: Any, exchange: FakeExchange, settings: StackSettings, tmp_path: Path
) -> None:
    join()
    assert isinstance(fedmed("hospital", "leave", answer="n\n").exception, OperatorError)
    assert exchange.left == []
    assert fedmed("hospital", "leave", "--yes").exit_code == 0
    assert exchange.left == ["north"]
    log = open_site(settings.site("north", tmp_path)).store.entries()
    assert log[-1].event == "left"


def test_a_coordinator_that_is_away_is_one_line(
    join: Any, fedmed: Any, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    join()

    def away() -> Any:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(exchange, "roster", away)
    error = fedmed("hospital", "peers").exception
    assert isinstance(error, OperatorError)
    assert f"the coordinator at {URL} does not answer (ConnectError: refused)" in str(error)
