"""TLS between a hospital and a coordinator: what connects, and what a person reads otherwise."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from deployments.cli import main
from deployments.errors import OperatorError
from deployments.local_api import local_transport
from deployments.settings import StackSettings
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeUntrusted
from tasks.hospital.tls import Trust
from tasks.hospital.tokens import Credential, HospitalAuth
from tasks.hospital.way import Way

pytestmark = pytest.mark.integration

CREDENTIAL = {"client_id": "north", "client_secret": "the secret of north"}


async def coordinator(scope: Any, receive: Any, send: Any) -> None:
    """Gives a token and a roster of nobody; what it was asked is in ``asked``."""
    asked.append(scope["path"])
    tokens = {"access_token": "t", "expires_in": 60, "token_type": "Bearer"}
    body = json.dumps(tokens if scope["path"] == "/oauth/token" else []).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


asked: list[str] = []


@contextmanager
def serving(certificate: tuple[Path, Path] | None) -> Iterator[int]:
    """Serves with uvicorn on a free port of this machine."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    config = uvicorn.Config(
        coordinator,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def server() -> Iterator[Callable[[tuple[Path, Path] | None], int]]:
    asked.clear()
    with ExitStack() as running:
        yield lambda certificate: running.enter_context(serving(certificate))


@pytest.fixture
def peers(
    settings: StackSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., tuple[int, str]]:
    """``fedmed hospital peers`` as a person calls it; returns its exit code and its last words."""
    keys = settings.home / "hospitals" / "north" / "keys"
    keys.mkdir(parents=True)
    (keys / "credential.json").write_text(json.dumps(CREDENTIAL))
    monkeypatch.chdir(tmp_path)

    def run(url: str, **environment: str) -> tuple[int, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = ["fedmed", "hospital", "peers", "--hospital-id", "north", "--api-url", url]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err

    return run


def test_the_authority_of_the_consortium_is_trusted_when_it_is_named(
    authority: Any, server: Any, peers: Any
) -> None:
    port = server(authority.issue())
    code, error = peers(f"https://127.0.0.1:{port}", FEDMED_CA_FILE=str(authority.file))
    assert (code, error) == (0, "")
    assert asked == ["/oauth/token", "/exchange/roster"]


def test_an_authority_nobody_named_is_not_trusted(authority: Any, server: Any, peers: Any) -> None:
    port = server(authority.issue())
    code, error = peers(f"https://127.0.0.1:{port}")
    assert code == 2
    assert error == (
        f"fedmed: https://127.0.0.1:{port}: its certificate is from an authority that is not "
        "trusted here; FEDMED_CA_FILE names a PEM file with the authority's certificate\n"
    )


@pytest.mark.parametrize(
    ("issued", "told"),
    [
        ({"host": "other.example.org"}, "its certificate is for another host name"),
        ({"host": "127.0.0.2"}, "its certificate is for another host name"),
        ({"days": (-3, -1)}, "its certificate has expired"),
        ({"days": (1, 3)}, "its certificate is not valid yet"),
    ],
)
def test_a_certificate_that_is_not_right_is_said_in_one_line(
    authority: Any, server: Any, peers: Any, issued: dict[str, Any], told: str
) -> None:
    port = server(authority.issue(**issued))
    code, error = peers(f"https://127.0.0.1:{port}", FEDMED_CA_FILE=str(authority.file))
    assert code == 2
    assert error.startswith(f"fedmed: https://127.0.0.1:{port}: {told}")
    assert error.count("\n") == 1
    assert asked == []  # the credential was not sent


def test_plain_http_to_a_port_with_tls_hints_at_https(
    authority: Any, server: Any, peers: Any
) -> None:
    port = server(authority.issue())
    code, error = peers(f"http://127.0.0.1:{port}")
    assert code == 2
    assert "write https:// if it serves HTTPS" in error
    assert error.count("\n") == 1


def test_https_to_a_port_without_tls_is_said(authority: Any, server: Any, peers: Any) -> None:
    port = server(None)
    code, error = peers(f"https://127.0.0.1:{port}", FEDMED_CA_FILE=str(authority.file))
    assert code == 2
    assert "it answers without TLS" in error
    assert error.count("\n") == 1


def test_plain_http_to_another_machine_is_refused_before_anything_is_sent(peers: Any) -> None:
    code, error = peers("http://fedmed.example.org:8000")
    assert code == 2
    assert error.startswith("fedmed: http://fedmed.example.org:8000 is not encrypted")
    assert error.count("\n") == 1


def test_a_file_that_is_no_authority_is_named(peers: Any, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for content in (None, "no certificate"):
        if content is not None:
            file.write_text(content)
        code, error = peers("https://127.0.0.1:9", FEDMED_CA_FILE=str(file))
        assert code == 2
        assert error.startswith(f"fedmed: FEDMED_CA_FILE: {file} holds no certificate")
        assert error.count("\n") == 1


def test_a_worker_does_not_ask_again_what_a_certificate_has_answered(
    authority: Any, server: Any
) -> None:
    """It would for twenty seconds, as after a lost connection."""
    url = f"https://127.0.0.1:{server(authority.issue(days=(-3, -1)))}"
    auth = HospitalAuth(url, lambda: Credential.model_validate(CREDENTIAL))
    tries: list[float] = []
    way = Way(url, Trust(ca_file=authority.file))
    with ExchangeClient.connect(way, auth, retry_for_s=20) as exchange:
        exchange._retry.after = lambda state: tries.append(state.attempt_number)
        with pytest.raises(ExchangeUntrusted, match="has expired"):
            exchange.roster()
    assert tries == []


def test_on_its_own_machine_the_api_is_known_by_its_very_certificate(
    authority: Any, server: Any, settings: StackSettings
) -> None:
    """Whatever name it bears; another certificate of the same authority is not taken for it."""
    certificate, key = authority.issue("fedmed.example.org")
    other = authority.issue("fedmed.example.org", name="other")
    for served, taken in (((certificate, key), True), (other, False)):
        here = settings.model_copy(
            update={"tls_cert": certificate, "tls_key": key, "api_port": server(served)}
        )
        with httpx.Client(base_url=here.local_api_url, transport=local_transport(here)) as client:
            if taken:
                assert client.get("/exchange/roster").status_code == 200
            else:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    client.get("/exchange/roster")


def test_a_missing_certificate_is_the_operator_s_to_mend(settings: StackSettings) -> None:
    gone = settings.model_copy(update={"tls_cert": Path("/gone"), "tls_key": Path("/gone")})
    with pytest.raises(OperatorError, match="FEDMED_TLS_CERT: /gone cannot be read"):
        local_transport(gone)


def test_no_version_of_tls_before_1_2_is_spoken(authority: Any, server: Any) -> None:
    port = server(authority.issue())
    context = Trust(ca_file=authority.file).context("https://127.0.0.1")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        assert wrapped.version() == "TLSv1.3"
