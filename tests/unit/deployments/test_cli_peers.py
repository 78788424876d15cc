"""`fedmed hospital identity`, `peers`, `accept`: how a hospital accepts the keys of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployments import cli_hospital, cli_site
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from privacy.secagg import Identity
from tasks.hospital.exchange import PublishedIdentity
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.site import Site, credential_file, open_site
from tasks.hospital.tokens import HospitalAuth
from tasks.hospital.way import Way


class FakeExchange:
    """As much of the exchange's client as is called; ``error`` comes in place of the roster."""

    def __init__(self) -> None:
        self.members: dict[str, Identity] = {}
        self.error: Exception | None = None
        self.asked: list[str] = []

    def connect(self, way: Way, auth: HospitalAuth, *, retry_for_s: float) -> Self:
        assert isinstance(auth, HospitalAuth)
        assert retry_for_s == 2.0
        self.asked.append(way.api_url)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def roster(self) -> tuple[PublishedIdentity, ...]:
        if self.error is not None:
            raise self.error
        return tuple(
            PublishedIdentity(
                hospital_id=name,
                signing_key=identity.public.signing_key.hex(),
                sealing_key=identity.public.sealing_key.hex(),
            )
            for name, identity in sorted(self.members.items())
        )


@pytest.fixture
def site(settings: StackSettings, tmp_path: Path) -> Site:
    """The site of north, which has its credential."""
    place = settings.site("north", tmp_path)
    credential_file(place).write_text('{"client_id": "north", "client_secret": "s3cret"}')
    return open_site(place)


@pytest.fixture
def exchange(site: Site, monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    fake = FakeExchange()
    fake.members = {
        "east": Identity.generate(),
        "north": site.identity,
        "west": Identity.generate(),
    }
    monkeypatch.setattr(cli_site.ExchangeClient, "connect", fake.connect)
    return fake


NORTH = ("--hospital-id", "north")


def shown(fedmed: Any) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """What `peers` shows: fingerprint and state by hospital, and the lines below the table."""
    done = fedmed("hospital", "peers", *NORTH)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("└")) + 1 :]
    return {name: (fingerprint, state) for _, name, fingerprint, state, _ in rows}, below


def mistake(fedmed: Any, *arguments: str) -> str:
    """Makes a mistake; `main` prints its text in one line and ends with code 2."""
    done = fedmed("hospital", *arguments)
    assert isinstance(done.exception, OperatorError), done.exception
    assert done.stdout == ""
    (line,) = str(done.exception).splitlines()
    return line


def test_its_own_fingerprint_is_one_line(fedmed: Any, site: Site) -> None:
    done = fedmed("hospital", "identity", *NORTH)
    assert done.stdout == f"{site.identity.public.fingerprint()}\n"


def test_the_fingerprint_of_a_mistyped_id_is_none(fedmed: Any, settings: StackSettings) -> None:
    line = mistake(fedmed, "identity", "--hospital-id", "nroth")
    assert "no credential at" in line
    assert "'nroth'" in line
    assert list(settings.home.rglob("*.key")) == []


def test_peers_are_shown_with_their_state_and_what_accepts_them(
    fedmed: Any, site: Site, exchange: FakeExchange
) -> None:
    east, west = (exchange.members[name].public.fingerprint() for name in ("east", "west"))
    rows, below = shown(fedmed)
    assert rows == {"east": (east, "not accepted"), "west": (west, "not accepted")}
    assert below[-1] == "fedmed hospital accept --hospital-id north PEER FINGERPRINT"
    assert exchange.asked == [site.settings.api_url]
    assert site.store.entries() == []


def test_ids_and_fingerprints_are_whole_on_a_narrow_terminal(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_id = "university-hospital-" + "x" * 43
    exchange.members = {long_id: Identity.generate()}
    monkeypatch.setattr(cli_hospital, "_out", Console(width=80))
    done = CliRunner().invoke(cli_hospital.hospital_app, ["peers", *NORTH])
    rows = [[cell.strip() for cell in row.split("│")] for row in done.stdout.splitlines()]
    cells = [row for row in rows if len(row) == 5]
    assert "".join(row[1] for row in cells) == long_id
    assert cells[0][2] == exchange.members[long_id].public.fingerprint()


def test_an_accepted_peer_is_pinned_logged_and_shown_as_accepted(
    fedmed: Any, site: Site, exchange: FakeExchange
) -> None:
    for name in ("east", "west"):
        fingerprint = exchange.members[name].public.fingerprint()
        done = fedmed("hospital", "accept", *NORTH, name, fingerprint.upper())
        assert (done.exit_code, done.stdout) == (0, f"accepted {name}\n")
    rows, below = shown(fedmed)
    assert {name: state for name, (_, state) in rows.items()} == {
        "east": "accepted",
        "west": "accepted",
    }
    assert below == []
    west = exchange.members["west"].public
    assert site.store.pinned_identities()["west"] == (
        west.signing_key.hex(),
        west.sealing_key.hex(),
    )
    assert [(e.event, e.details["hospital"]) for e in site.store.entries()] == [
        ("identity-accepted", "east"),
        ("identity-accepted", "west"),
    ]


def test_a_wrong_fingerprint_accepts_nothing_and_names_both(
    fedmed: Any, site: Site, exchange: FakeExchange
) -> None:
    of_west, of_east = (exchange.members[name].public.fingerprint() for name in ("west", "east"))
    line = mistake(fedmed, "accept", *NORTH, "west", of_east)
    assert of_west in line
    assert of_east in line
    assert site.store.pinned_identities() == {}
    assert site.store.entries() == []


def test_changed_keys_are_shown_and_replace_the_old_ones_once_accepted(
    fedmed: Any, site: Site, exchange: FakeExchange
) -> None:
    old = exchange.members["west"].public.fingerprint()
    fedmed("hospital", "accept", *NORTH, "west", old)
    exchange.members["west"] = Identity.generate()
    new = exchange.members["west"].public.fingerprint()
    assert shown(fedmed)[0]["west"] == (new, "changed")
    assert new in mistake(fedmed, "accept", *NORTH, "west", old)
    assert shown(fedmed)[0]["west"] == (new, "changed")
    fedmed("hospital", "accept", *NORTH, "west", new)
    assert shown(fedmed)[0]["west"] == (new, "accepted")


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("south", "the coordinator shows no hospital 'south'; `fedmed hospital peers"),
        ("north", "north is this hospital itself"),
    ],
)
def test_a_hospital_that_cannot_be_accepted_is_named(
    fedmed: Any, site: Site, exchange: FakeExchange, peer: str, said: str
) -> None:
    fingerprint = site.identity.public.fingerprint()
    assert mistake(fedmed, "accept", *NORTH, peer, fingerprint).startswith(said)
    assert site.store.pinned_identities() == {}


@pytest.mark.parametrize("command", [("peers",), ("accept", "west", "f5a5")])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ExchangeRefused("north is suspended"), "north is suspended"),
        (httpx.ConnectError("refused"), "the coordinator at https://far does not answer"),
        (httpx.UnsupportedProtocol("ftp"), "the coordinator at https://far does not answer"),
    ],
)
def test_without_a_roster_it_is_said_why(
    fedmed: Any,
    exchange: FakeExchange,
    command: tuple[str, ...],
    error: Exception,
    said: str,
) -> None:
    exchange.error = error
    name, *rest = command
    line = mistake(fedmed, name, *NORTH, "--api-url", "https://far", *rest)
    assert line.startswith(said)
    assert exchange.asked == ["https://far"]
