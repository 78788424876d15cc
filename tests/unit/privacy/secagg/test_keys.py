from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import ParametersRefused, ProtocolError, SignatureRefused
from privacy.secagg import Identity, MemoryJournal, Participant, PublicIdentity, SecureSum
from privacy.secagg.keys import agree


def test_an_identity_survives_storage():
    identity = Identity.generate()
    assert Identity.from_private_bytes(identity.private_bytes()).public == identity.public
    assert len(identity.private_bytes()) == 64


def test_a_public_identity_travels_as_hexadecimal():
    public = Identity.generate().public
    read = PublicIdentity.from_hex(
        signing_key=public.signing_key.hex(), sealing_key=public.sealing_key.hex()
    )
    assert read == public
    assert read.fingerprint() == public.fingerprint()


def test_fingerprints_differ_when_either_key_does():
    first, second = Identity.generate().public, Identity.generate().public
    mixed = PublicIdentity(first.signing_key, second.sealing_key)
    assert len({value.fingerprint() for value in (first, second, mixed)}) == 3


def test_private_keys_do_not_show_in_the_representation():
    assert repr(Identity.generate()) == "Identity()"


def test_keys_of_the_standards():
    """RFC 8032, section 7.1, test 1; RFC 7748, section 6.1."""
    identity = Identity.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
        + bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert agree(identity.sealing, alice, party=1).hex() == (
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    )
    assert identity.public.signing_key.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    identity.public.verify(
        bytes.fromhex(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
            "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        b"",
        what="test",
    )


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: PublicIdentity(bytes(31), bytes(32)), "signing_key: 32 raw bytes"),
        (lambda: PublicIdentity(bytes(32), bytes(33)), "sealing_key: 32 raw bytes"),
        (lambda: PublicIdentity("k" * 32, bytes(32)), "signing_key: 32 raw bytes"),
        (lambda: PublicIdentity.from_hex(signing_key="zz", sealing_key=""), "not hexadecimal"),
        (lambda: Identity.from_private_bytes(bytes(63)), "64 bytes are needed, not 63"),
    ],
)
def test_malformed_keys_are_refused(build, named):
    with pytest.raises(ParametersRefused, match=named):
        build()


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_what_is_no_signature_is_refused(signature):
    with pytest.raises(SignatureRefused, match=r"^letter: the signature does not verify"):
        Identity.generate().public.verify(signature, b"statement", what="letter")


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31)])
def test_a_key_of_low_order_is_refused(key):
    with pytest.raises(ProtocolError, match="party 7: its X25519 key cannot be used"):
        agree(X25519PrivateKey.generate(), key, party=7)


def test_a_roster_must_fit_the_parameters(session):
    parameters, roster, identity = session.parameters, session.roster, session.identities[1]
    same_signer = PublicIdentity(roster[1].signing_key, os.urandom(32))
    same_sealer = PublicIdentity(os.urandom(32), roster[1].sealing_key)
    low_order = PublicIdentity(roster[3].signing_key, bytes(32))
    for broken, named in (
        ({1: roster[1], 2: roster[2]}, r"identities are given for \[1, 2\]"),
        (roster | {4: Identity.generate().public}, r"given for \[1, 2, 3, 4\]"),
        (roster | {3: same_signer}, "two parties have the same key"),
        (roster | {3: same_sealer}, "two parties have the same key"),
    ):
        with pytest.raises(ParametersRefused, match=named):
            SecureSum(parameters, broken)
        with pytest.raises(ParametersRefused, match=named):
            Participant(1, parameters, identity, broken, journal=MemoryJournal())
    with pytest.raises(ProtocolError, match="party 3: its X25519 key cannot be used"):
        Participant(1, parameters, identity, roster | {3: low_order}, journal=MemoryJournal())


@pytest.mark.parametrize("index", [0, 2, 4])
def test_a_party_must_find_itself_in_the_roster(session, index):
    with pytest.raises(ParametersRefused, match=f"party {index}: the roster does not show"):
        Participant(
            index,
            session.parameters,
            session.identities[1],
            session.roster,
            journal=MemoryJournal(),
        )
