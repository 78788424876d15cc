"""A hospital's tokens, against a transport that answers as the API does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import SecretStr

from tasks.hospital.exchange_errors import CredentialRefused, ExchangeRefused
from tasks.hospital.tokens import Credential, HospitalAuth, IssuedToken


@dataclass
class Coordinator:
    """Issues ``t1``, ``t2``, … for a minute each; refuses what is in ``revoked``."""

    now: float = 1000.0
    secret: str = "s3cret"
    revoked: set[str] = field(default_factory=set)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    sign_in: Callable[[], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            self.forms.append(parse_qs(request.content.decode()))
            if self.sign_in is not None:
                return self.sign_in()
            token = {"access_token": f"t{len(self.forms)}", "expires_in": 60}
            return httpx.Response(200, json=token)
        self.seen.append(request.headers["authorization"].removeprefix("Bearer "))
        return httpx.Response(401 if self.seen[-1] in self.revoked else 200)

    def credential(self) -> Credential:
        return Credential(client_id="north", client_secret=SecretStr(self.secret))

    def client(self, token: IssuedToken | None = None) -> httpx.Client:
        auth = HospitalAuth("http://api/", self.credential, clock=lambda: self.now, token=token)
        return httpx.Client(transport=httpx.MockTransport(self), base_url="http://api", auth=auth)


def test_one_token_serves_many_requests_and_is_renewed_before_it_expires() -> None:
    coordinator = Coordinator()
    client = coordinator.client()
    client.get("/work")
    coordinator.now += 29
    client.get("/work")
    coordinator.now += 2
    client.get("/work")
    assert coordinator.seen == ["t1", "t1", "t2"]
    grant = {"grant_type": ["client_credentials"]}
    assert coordinator.forms[0] == {**grant, "client_id": ["north"], "client_secret": ["s3cret"]}


@pytest.mark.anyio
async def test_an_asynchronous_client_is_signed_in_as_well() -> None:
    coordinator = Coordinator()
    auth = HospitalAuth("http://api", coordinator.credential, clock=lambda: coordinator.now)
    transport = httpx.MockTransport(coordinator)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", auth=auth) as client:
        await client.get("/work")
    assert coordinator.seen == ["t1"]


def test_a_token_that_was_handed_on_is_used_until_it_is_refused() -> None:
    coordinator = Coordinator(revoked={"t0"})
    client = coordinator.client(IssuedToken(value="t0", renew_at=2000.0))
    assert client.get("/work").is_success
    assert coordinator.seen == ["t0", "t1"]


def test_a_token_that_is_refused_is_replaced_once_no_more() -> None:
    coordinator = Coordinator(revoked={"t1", "t2"})
    assert coordinator.client().get("/work").status_code == 401
    assert coordinator.seen == ["t1", "t2"]


def test_a_rotated_credential_is_taken_up_at_the_next_token() -> None:
    coordinator = Coordinator(revoked={"t1"})
    client = coordinator.client()
    coordinator.secret = "another"
    client.get("/work")
    assert coordinator.forms[-1]["client_secret"] == ["another"]


def test_a_credential_that_is_not_accepted_is_said_plainly_and_without_the_secret() -> None:
    body = {"error": "unauthorized_client", "error_description": "the hospital north is suspended"}
    coordinator = Coordinator(sign_in=lambda: httpx.Response(400, json=body))
    with pytest.raises(CredentialRefused, match="the hospital north is suspended") as caught:
        coordinator.client().get("/work")
    assert "s3cret" not in str(caught.value)


def test_a_refusal_that_explains_nothing_is_one_too() -> None:
    coordinator = Coordinator(sign_in=lambda: httpx.Response(401, text="no"))
    with pytest.raises(CredentialRefused, match=r"is not accepted$"):
        coordinator.client().get("/work")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_coordinator_that_is_busy_may_be_asked_again(status: int) -> None:
    coordinator = Coordinator(sign_in=lambda: httpx.Response(status))
    with pytest.raises(httpx.HTTPStatusError):
        coordinator.client().get("/work")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"access_token": 1}'])
def test_an_answer_that_is_no_token_is_refused(body: bytes) -> None:
    coordinator = Coordinator(sign_in=lambda: httpx.Response(200, content=body))
    with pytest.raises(ExchangeRefused, match="not a token"):
        coordinator.client().get("/work")


def test_a_token_does_not_show_itself() -> None:
    assert "t0" not in repr(IssuedToken(value="t0", renew_at=1.0))
