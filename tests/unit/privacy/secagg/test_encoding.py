from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from privacy.secagg.encoding import digest, index_bytes, kdf


def test_kdf_known_answers(vectors):
    for vector in vectors["kdf"]:
        found = kdf(bytes.fromhex(vector["secret"]), bytes.fromhex(vector["info"]))
        assert found.hex() == vector["key"], vector["source"]


def test_digest_known_answers(vectors):
    for vector in vectors["digest"]:
        assert digest(*map(bytes.fromhex, vector["parts"])).hex() == vector["digest"]


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_digest_tells_lists_apart(first, second):
    assert (digest(*first) == digest(*second)) == (first == second)


def test_indices_do_not_depend_on_their_order():
    assert index_bytes([3, 1, 2]) == index_bytes({1, 2, 3}) == b"\1\0\0\0\2\0\0\0\3\0\0\0"
