from __future__ import annotations

from ipaddress import ip_network

import pytest
from starlette.requests import Request

from api.auth.addresses import UNKNOWN, client_address, peer_of

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("host", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        # Who is no proxy of ours may say what it likes.
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        # What the client itself has put before it does not count.
        ("10.0.0.1", ["192.0.2.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8:9::1"], "2001:db8:9::/64"),
        (None, ["198.51.100.1"], UNKNOWN),
        ("/run/api.sock", [], UNKNOWN),
    ],
)
def test_an_address_is_believed_from_the_nearest_on(
    host: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(host, forwarded=forwarded, trusted=PROXIES) == address


@pytest.mark.parametrize(("client", "address"), [(("10.0.0.1", 7), "192.0.2.9"), (None, UNKNOWN)])
def test_reads_a_request(client: tuple[str, int] | None, address: str) -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.9")]
    request = Request({"type": "http", "client": client, "headers": headers})
    assert peer_of(request, PROXIES) == address
