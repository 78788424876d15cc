"""A hospital's line to the exchange: its keys, its reports of crashes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import pytest

from deployments import hospital
from deployments.admission import RunRefused
from deployments.hospital import SiteBusy, _Refusals, hold_site, publish_identity
from privacy.secagg import Identity
from tasks.hospital.exchange_errors import ExchangeRefused, RoundClosed
from tasks.hospital.refusal import Refusal
from tasks.hospital.way import Way

pytestmark = pytest.mark.anyio

ROUND = uuid4()

HOLDS = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from deployments.hospital import hold_site

hold_site(SimpleNamespace(hospital_id="north", hospital_home=Path(sys.argv[1])))
child = os.fork()
if child:
    print(child, flush=True)
    os.waitpid(child, 0) if sys.argv[2] == "stays" else os._exit(0)
else:
    sys.stdin.read()  # until the test has seen enough
"""


@dataclass
class FakeExchange:
    """As much of the exchange's client as is called; ``errors`` come first."""

    errors: list[Exception] = field(default_factory=list)
    published: list[dict[str, str]] = field(default_factory=list)
    sent: list[tuple[UUID, str, bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def publish_identity(self, hospital_id: str, **keys: str) -> None:
        self._fail()
        self.published.append({"hospital_id": hospital_id, **keys})

    def put(self, round_id: UUID, kind: str, body: bytes) -> None:
        self._fail()
        self.sent.append((round_id, kind, body))

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    made = FakeExchange()
    monkeypatch.setattr(hospital.ExchangeClient, "connect", lambda url, auth: made)
    return made


@pytest.fixture
def site() -> Any:
    settings = SimpleNamespace(hospital_id="north", way=Way("http://127.0.0.1"))
    store = SimpleNamespace(logged=[])
    store.log = lambda event, detail: store.logged.append((event, detail))
    identity = Identity.generate()
    return SimpleNamespace(settings=settings, auth=None, identity=identity, store=store)


def a_run(**parameters: Any) -> Any:
    return SimpleNamespace(id=uuid4(), parameters=parameters)


async def test_keys_are_published_as_soon_as_the_coordinator_answers(
    exchange: FakeExchange, site: Any
) -> None:
    exchange.errors = [httpx.ConnectError("nobody there")]
    publish_identity(site)
    assert exchange.published == [
        {
            "hospital_id": "north",
            "signing_key": site.identity.public.signing_key.hex(),
            "sealing_key": site.identity.public.sealing_key.hex(),
        }
    ]


async def test_other_keys_at_the_coordinator_end_the_hospital(
    exchange: FakeExchange, site: Any
) -> None:
    exchange.errors = [ExchangeRefused("north has published other keys before")]
    with pytest.raises(ExchangeRefused, match="other keys"):
        publish_identity(site)
    assert exchange.published == []


async def test_a_crash_is_a_refusal_of_its_round(exchange: FakeExchange, site: Any) -> None:
    run = a_run(invitation={"round_id": str(ROUND)})
    await _Refusals(site).of_crash(run, 137)
    ((round_id, kind, body),) = exchange.sent
    assert (round_id, kind) == (ROUND, "refusal")
    assert json.loads(body) == {
        "code": "crashed",
        "reason": "the run ended with exit code 137",
    }


async def test_a_run_over_its_time_is_named_so(exchange: FakeExchange, site: Any) -> None:
    run = a_run(invitation={"round_id": str(ROUND)})
    await _Refusals(site).of_crash(run, -signal.SIGXCPU)
    assert b"limit of processor time" in exchange.sent[0][2]


async def test_a_run_that_was_not_begun_is_a_refusal_of_its_round(
    exchange: FakeExchange, site: Any
) -> None:
    refused = RunRefused(Refusal("parameters", "number: not a number"), ROUND)
    await _Refusals(site).of_run(refused)
    ((round_id, kind, body),) = exchange.sent
    assert (round_id, kind) == (ROUND, "refusal")
    assert json.loads(body) == {"code": "parameters", "reason": "number: not a number"}
    assert site.store.logged == [("refused", {"round": str(ROUND), "code": "parameters"})]


@pytest.mark.parametrize(
    "parameters", [{}, {"invitation": "x"}, {"invitation": {}}, {"invitation": {"round_id": "x"}}]
)
async def test_a_run_that_names_no_round_has_nobody_to_tell(
    exchange: FakeExchange, site: Any, parameters: dict[str, Any]
) -> None:
    await _Refusals(site).of_crash(a_run(**parameters), 1)
    assert exchange.sent == []


async def test_a_crash_that_cannot_be_reported_does_not_end_the_worker(
    exchange: FakeExchange, site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.errors = [RoundClosed("over")]
    await _Refusals(site).of_crash(a_run(invitation={"round_id": str(ROUND)}), 1)
    assert "could not report 'crashed'" in caplog.text


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Any]:
    """Starts another process that holds the site, as its worker and that one's child do."""
    started: list[subprocess.Popen[bytes]] = []

    def start(then: str) -> tuple[subprocess.Popen[bytes], int]:
        other = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path), then],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(other)
        assert other.stdout is not None
        return other, os.pidfd_open(int(other.stdout.readline()))

    yield start
    for other in started:
        if other.stdin is not None and not other.stdin.closed:
            other.stdin.close()
        other.wait(timeout=30)
        if other.stdout is not None:
            other.stdout.close()


async def test_a_second_process_cannot_run_the_same_site(tmp_path: Path, holding: Any) -> None:
    settings: Any = SimpleNamespace(hospital_id="north", hospital_home=tmp_path)
    other, child = holding("stays")
    os.close(child)
    with pytest.raises(SiteBusy, match=f"north runs already on this machine, from {tmp_path}"):
        hold_site(settings)
    other.stdin.close()
    assert other.wait(timeout=30) == 0
    hold_site(settings)  # with its holder's end it is free, though the file stays
    assert (tmp_path / "worker.lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SiteBusy):
        hold_site(settings)


async def test_a_site_is_busy_until_the_last_child_of_its_worker_has_ended(
    tmp_path: Path, holding: Any
) -> None:
    settings: Any = SimpleNamespace(hospital_id="north", hospital_home=tmp_path)
    other, child = holding("ends")
    assert other.wait(timeout=30) == 0
    with pytest.raises(SiteBusy):
        hold_site(settings)
    other.stdin.close()
    assert select.select([child], [], [], 30)[0]
    os.close(child)
    hold_site(settings)


async def test_another_site_on_the_same_machine_is_its_own(tmp_path: Path, holding: Any) -> None:
    os.close(holding("stays")[1])
    (tmp_path / "south").mkdir()
    hold_site(SimpleNamespace(hospital_id="south", hospital_home=tmp_path / "south"))
