from __future__ import annotations

import pytest

from api.auth.grants import FORM, OAuthError, parse_form


def test_reads_a_form() -> None:
    body = b"grant_type=password&username=ada&password=a%26b+c&scope="
    assert parse_form(f"{FORM}; charset=utf-8", body) == {
        "grant_type": "password",
        "username": "ada",
        "password": "a&b c",
    }


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"grant_type": "password"}'),
        ("", b"grant_type=password"),
        ("multipart/form-data; boundary=x", b"--x--"),
        (FORM, b"grant_type=password&grant_type=client_credentials"),
        (FORM, "grant_type=pässword".encode()),
        (FORM, b"grant_type=%ff%fe"),
        (FORM, b"&".join(b"a%d=1" % n for n in range(30))),
        (FORM, b"username=a%00b"),
        (FORM, b"username=" + b"a" * 2000),
    ],
)
def test_refuses_what_is_no_form(content_type: str, body: bytes) -> None:
    with pytest.raises(OAuthError) as refused:
        parse_form(content_type, body)
    assert refused.value.error == "invalid_request"
    assert refused.value.status == 400
