"""Which addresses stay on this machine."""

from __future__ import annotations

import pytest

from fl.addresses import is_loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LocalHost."]
)
def test_loopback_by_number_and_by_its_one_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "0.0.0.0", "::", "[::]", "::ffff:10.0.0.1", "fedmed.example.org", ""),
        # Names that only look like it; what they mean is for their owner to say.
        *("127.0.0.1.example.org", "localhost.example.org", "127.1", "0x7f000001"),
    ],
)
def test_everything_else_is_another_machine(host: str) -> None:
    assert not is_loopback(host)
