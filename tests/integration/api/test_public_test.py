"""A public test set: held to the contract, kept by its hash, named with the model's version."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ROWS = b"radius,malignant\n12.5,0\n20,1\n"


async def put(api: Any, data: bytes, path: str = "/models/breast-cancer/public-test") -> Any:
    answer: httpx.Response = await api.client.put(
        path, content=data, headers=api.may("models:write")
    )
    return answer


async def test_it_is_kept_and_named_with_the_version(api: Any) -> None:
    await api.add_model()
    answer = await put(api, ROWS)
    digest = hashlib.sha256(ROWS).hexdigest()
    assert answer.status_code == 200
    assert answer.json()["public_test"] == digest
    (listed,) = await api.get("/models", "training:read")
    assert listed["public_test"] == digest
    assert digest in api.stored_blobs()
    event = api.contents()["audit_events"][-1]._mapping
    assert (event["action"], event["details"]["sha256"]) == ("model.public-test", digest)


async def test_rows_outside_the_contract_are_refused_and_not_kept(api: Any) -> None:
    await api.add_model()
    before, blobs = api.contents(), api.stored_blobs()
    answer = await put(api, b"radius,malignant\n12.5,0\n-7654.25,1\n99,2\n")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "/problems/public-test"
    assert {(e["field"], e["detail"]) for e in problem["errors"]} == {
        ("radius", "out-of-range (2)"),
        ("malignant", "unknown-label (1)"),
    }
    assert "7654" not in answer.text
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


async def test_what_is_no_table_is_refused(api: Any) -> None:
    await api.add_model()
    for data in (b"", b"PK\x03\x04 no archive", b"\xff\xfe\x00"):
        answer = await put(api, data)
        assert answer.status_code == 422, data
        assert answer.json()["type"] == "/problems/public-test"


async def test_an_unknown_model_and_too_large_a_file(api: Any) -> None:
    assert (await put(api, ROWS)).status_code == 404
    await api.add_model()
    version = await put(api, ROWS, "/models/breast-cancer/public-test?version=2")
    assert version.status_code == 404
    large = await put(api, b"x" * (api.settings.max_upload_bytes + 1))
    assert large.status_code == 413
