"""The hospital's client of the exchange, against a transport that answers as the API does."""

import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeRefused, ExchangeTimeout, RoundClosed
from tasks.hospital.tokens import Credential, HospitalAuth
from tasks.hospital.way import Way

ROUND = UUID("6f1c1c1e-0000-4000-8000-000000000001")
CREDENTIAL = Credential(client_id="hospital-1", client_secret=SecretStr("s3cret"))
AUTH = HospitalAuth("http://api", lambda: CREDENTIAL)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def client(
    answer: Callable[[httpx.Request], httpx.Response], clock: Clock | None = None
) -> tuple[ExchangeClient, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/oauth/token":
            number = sum(r.url.path == "/oauth/token" for r in seen)
            return httpx.Response(200, json={"access_token": f"t{number}", "expires_in": 60})
        return answer(request)

    clock = clock or Clock()
    auth = HospitalAuth("http://api", lambda: CREDENTIAL, clock=clock)
    transport = httpx.MockTransport(handle)
    http = httpx.Client(transport=transport, base_url="http://api", auth=auth)
    return ExchangeClient(http, clock=clock, retry_for_s=1.0), seen


def problem(status: int, detail: str) -> httpx.Response:
    return httpx.Response(
        status, json={"detail": detail}, headers={"content-type": "application/problem+json"}
    )


def test_a_message_goes_with_its_hash_and_one_token_serves_many():
    exchange, seen = client(lambda _: httpx.Response(201, json={}))
    exchange.put(ROUND, "enrolment", b"body")
    exchange.put(ROUND, "upload", b"body")
    first, second = (r for r in seen if r.url.path != "/oauth/token")
    assert first.headers["x-content-sha256"] == hashlib.sha256(b"body").hexdigest()
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer t1"


def test_waiting_returns_the_message_when_it_comes():
    answers = [httpx.Response(204), httpx.Response(200, content=b"cohort")]
    exchange, _ = client(lambda _: answers.pop(0))
    assert exchange.wait_for(ROUND, "cohort", timeout_s=60) == b"cohort"


def test_waiting_ends_at_the_timeout():
    clock = Clock()

    def answer(_: httpx.Request) -> httpx.Response:
        clock.now += 25
        return httpx.Response(204)

    exchange, _ = client(answer, clock)
    with pytest.raises(ExchangeTimeout, match="no cohort message"):
        exchange.wait_for(ROUND, "cohort", timeout_s=60)
    assert clock.now == 75


def test_a_closed_round_gives_its_reason():
    exchange, _ = client(lambda _: problem(410, "hospital-2 refused"))
    with pytest.raises(RoundClosed, match="hospital-2 refused"):
        exchange.wait_for(ROUND, "survivors", timeout_s=60)


def test_a_refused_message_names_the_call_and_the_problem():
    exchange, _ = client(lambda _: problem(409, "another enrolment is there"))
    with pytest.raises(ExchangeRefused, match=r"PUT /exchange/rounds/.*another enrolment"):
        exchange.put(ROUND, "enrolment", b"")


def test_a_lost_connection_and_a_failing_server_are_tried_again():
    answers = [httpx.ConnectError("lost"), httpx.Response(503), httpx.Response(201)]

    def answer(request: httpx.Request) -> httpx.Response:
        result = answers.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    exchange, _ = client(answer)
    exchange.put(ROUND, "enrolment", b"")
    assert answers == []


def test_altered_weights_are_refused():
    exchange, _ = client(lambda _: httpx.Response(200, content=b"other"))
    with pytest.raises(ExchangeRefused, match="arrived with SHA-256"):
        exchange.weights("0" * 64)


def test_keys_are_published_under_the_hospital_s_own_name():
    exchange, seen = client(lambda _: httpx.Response(200, json={}))
    exchange.publish_identity("north", signing_key="a" * 64, sealing_key="b" * 64)
    assert (seen[-1].method, seen[-1].url.path) == ("PUT", "/hospitals/north/identity")
    assert json.loads(seen[-1].content) == {"signing_key": "a" * 64, "sealing_key": "b" * 64}


def test_figures_of_all_hospitals_are_those_of_the_training_asked_for():
    shown = {
        "training_id": str(ROUND),
        "model": "breast-cancer",
        "version": 1,
        "state": "completed",
    }
    shown |= {"metrics": {"auc": 0.9, "roc": [0, 1]}, "new_field": True}
    exchange, seen = client(lambda _: httpx.Response(200, json=shown))
    assert exchange.figures(ROUND).metrics["auc"] == 0.9
    assert seen[-1].url.path == f"/exchange/trainings/{ROUND}/figures"
    with pytest.raises(ExchangeRefused, match=f"is of training {ROUND}"):
        exchange.figures(UUID(int=9))


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"training_id": "x"}'])
def test_an_answer_without_figures_is_named(body: bytes):
    exchange, _ = client(lambda _: httpx.Response(200, content=body))
    with pytest.raises(ExchangeRefused, match="the answer holds no figures"):
        exchange.figures(ROUND)


def test_a_server_that_keeps_failing_is_an_error_of_the_server():
    http = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(503)), base_url="http://api"
    )
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        ExchangeClient(http, retry_for_s=0.05).put(ROUND, "enrolment", b"")


def test_a_refusal_that_is_no_problem_document_is_named_by_its_status():
    exchange, _ = client(lambda _: httpx.Response(404, text="<html>"))
    with pytest.raises(ExchangeRefused, match="HTTP 404"):
        exchange.put(ROUND, "enrolment", b"")


def test_weights_that_are_the_ones_asked_for_are_returned():
    exchange, _ = client(lambda _: httpx.Response(200, content=b"weights"))
    assert exchange.weights(hashlib.sha256(b"weights").hexdigest()) == b"weights"


def test_an_https_address_is_held_to_its_certificate_and_no_proxy_is_asked(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    made = []

    class Transport(httpx.HTTPTransport):
        def __init__(self, **options):
            made.append(options)
            super().__init__(**options)

    monkeypatch.setattr(httpx, "HTTPTransport", Transport)
    with ExchangeClient.connect(Way("https://fedmed.example.org"), AUTH) as exchange:
        assert exchange._client.trust_env is False
    with ExchangeClient.connect(Way("http://127.0.0.1:8000"), AUTH) as exchange:
        assert not exchange._client.is_closed
    assert exchange._client.is_closed
    inside = Way("https://fedmed.example.org", uds=Path("/run/c.sock"))
    with ExchangeClient.connect(inside, AUTH):
        pass
    secure, plain, relayed = made
    for options in (secure, relayed):  # the relay is on the way too, and is held to it
        assert options["verify"].check_hostname
        assert options["verify"].verify_mode == ssl.CERT_REQUIRED
    assert plain["trust_env"] is secure["trust_env"] is relayed["trust_env"] is False
    assert (secure["uds"], plain["uds"], relayed["uds"]) == (None, None, "/run/c.sock")
    assert secure["socket_options"] is plain["socket_options"] is None
    ((level, option, size),) = relayed["socket_options"]
    assert (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size >= 1 << 20


NORTH = {"hospital_id": "north", "signing_key": "a" * 64, "sealing_key": "b" * 64}


def test_the_roster_is_what_the_coordinator_shows():
    south = {**NORTH, "hospital_id": "south"}
    exchange, seen = client(lambda _: httpx.Response(200, json=[NORTH, south]))
    assert [entry.model_dump() for entry in exchange.roster()] == [NORTH, south]
    assert (seen[-1].method, seen[-1].url.path) == ("GET", "/exchange/roster")


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"{}",
        json.dumps([{**NORTH, "signing_key": "A" * 64}]).encode(),
        json.dumps([{**NORTH, "hospital_id": "\x1b[2J"}]).encode(),
    ],
)
def test_an_answer_that_is_no_roster_is_refused(content):
    exchange, _ = client(lambda _: httpx.Response(200, content=content))
    with pytest.raises(ExchangeRefused, match="not a roster"):
        exchange.roster()


def test_a_hospital_with_two_sets_of_keys_is_refused():
    exchange, _ = client(lambda _: httpx.Response(200, json=[NORTH, NORTH]))
    with pytest.raises(ExchangeRefused, match="shown twice"):
        exchange.roster()
