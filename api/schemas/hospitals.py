"""Hospitals: inviting, joining, their keys, what an operator decides."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from api.schemas.base import Body, Printable, View
from fl.invitation import Digest, HospitalId, Key
from fl.joining import JoinCodeText

Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=Printable)]


class NewHospital(Body):
    """A hospital to invite; its id follows from its name unless one is given.

    ``again`` asks one that is known: it has lost its keys or its credential, or has left.
    """

    hospital_id: HospitalId | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=Printable)]
    valid_days: Annotated[int, Field(ge=1, le=90)] = 7
    again: bool = False


class HospitalInvited(View):
    """A hospital that may join; the code is shown this once, ``command`` is what it runs."""

    hospital_id: str
    name: str
    join_code: str
    expires_at: datetime
    command: str


class Identity(Body):
    """A hospital's public identity keys, 32 bytes each in hex: Ed25519 and X25519."""

    signing_key: Key
    sealing_key: Key


class JoinRequest(Identity):
    """What a hospital shows to join; its private keys and its secret stay with it.

    ``proof`` is the signing key's Ed25519 signature over `fl.joining.join_statement`, hex.
    """

    code: JoinCodeText
    client_secret_sha256: Digest
    proof: Signature


class IdentityReplacement(Identity):
    """New identity keys: signed by the old signing key, and by the new one to show it is held.

    Both sign `fl.joining.replacement_statement`, Ed25519, hex.
    """

    signature: Signature
    proof: Signature


class NewCredential(Body):
    """The SHA-256, hex, of a client secret that the hospital has made."""

    client_secret_sha256: Digest


class WhyBody(Body):
    """Why an operator does something; it is in the audit record and in the rounds it ends."""

    reason: Reason = "the operator gave no reason"


class PublishedIdentity(View):
    """A hospital and the public keys it has published, hex."""

    hospital_id: str
    signing_key: str
    sealing_key: str


class Joined(View):
    """A hospital that is a member: its client and the hospitals whose keys it should compare."""

    hospital_id: str
    client_id: str
    name: str
    roster: list[PublishedIdentity]


class HospitalView(View):
    """A hospital; its keys are null until it has joined.

    ``last_heard_at`` is when its last message of a round arrived.
    """

    hospital_id: str
    name: str
    state: str
    signing_key: str | None
    sealing_key: str | None
    created_at: datetime
    last_heard_at: datetime | None
