from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privacy.errors import ProtocolError
from privacy.secagg.context import (
    echo_statement,
    enrolment_statement,
    pair_mask_key,
    reveal_statement,
    seed_commitment,
    self_mask_key,
    share_commitment,
    survivors_digest,
    upload_digest,
    vector_digest,
)

CONTEXT, SESSION = bytes(range(100, 132)), bytes(range(16))
COMMITMENTS = {10: b"\3" * 32, 2: b"\2" * 32}
SHARES = {3: b"\4" * 33, 1: b"\1" * 33}

STATEMENTS: dict[str, Callable[[], bytes]] = {
    "vector": lambda: vector_digest(np.array([1, 2, 3, 2**32 - 1], "<u4"), (5, 2)),
    "upload": lambda: upload_digest(bytes(32), b"\1" * 32, COMMITMENTS),
    "enrolment": lambda: enrolment_statement(SESSION, 7, 3, b"\5" * 32, COMMITMENTS),
    "echo": lambda: echo_statement(CONTEXT, 3, (3, 1, 2)),
    "survivors": lambda: survivors_digest(CONTEXT, {2, 3, 1}),
    "reveal": lambda: reveal_statement(
        CONTEXT, 3, (3, 1), shares=SHARES, key_shares={2: b"\6" * 33}
    ),
}


def test_statements_known_answers(vectors: Any) -> None:
    assert {vector["what"] for vector in vectors["statement"]} == set(STATEMENTS)
    for vector in vectors["statement"]:
        assert STATEMENTS[vector["what"]]().hex() == vector["digest"], vector["what"]


def test_mask_keys_known_answers(vectors: Any) -> None:
    derive = {"pair": pair_mask_key, "self": self_mask_key}
    for vector in vectors["mask key"]:
        secret, context = (bytes.fromhex(vector[name]) for name in ("secret", "context"))
        assert derive[vector["kind"]](secret, context).hex() == vector["key"]


def test_commitments_known_answers(vectors: Any) -> None:
    for vector in vectors["share commitment"]:
        found = share_commitment(
            bytes.fromhex(vector["share"]),
            purpose=vector["purpose"].encode(),
            session=bytes.fromhex(vector["session"]),
            round_number=vector["round"],
            dealer=vector["dealer"],
            receiver=vector["receiver"],
        )
        assert found.hex() == vector["commitment"]
    for vector in vectors["seed commitment"]:
        seed, context = (bytes.fromhex(vector[name]) for name in ("seed", "context"))
        assert seed_commitment(seed, context, index=vector["index"]).hex() == vector["commitment"]


def test_values_of_another_size_are_not_joined() -> None:
    """Or 31 and 33 bytes could be read as 32 and 32."""
    with pytest.raises(ProtocolError, match="the value for party 2 has 31 bytes, 32 are needed"):
        upload_digest(bytes(32), bytes(32), {2: bytes(31), 3: bytes(33)})


@pytest.mark.parametrize("shares", [{1: SHARES[1]}, {}])
def test_a_share_of_a_seed_is_never_signed_for_as_one_of_a_key(shares: dict[int, bytes]) -> None:
    rest = {dealer: share for dealer, share in SHARES.items() if dealer not in shares}
    statement = reveal_statement(CONTEXT, 3, (1, 3), shares=shares, key_shares=rest)
    assert statement != reveal_statement(CONTEXT, 3, (1, 3), shares=SHARES, key_shares={})
