"""New credentials of a hospital: its client secret, its identity keys; and what a stop left.

    rotate_secret(settings, client_of)
    rotate_identity(settings, client_of)
    settle(settings, client_of)            # before anything else uses the credential

What is new is on the disk before the coordinator is told, what is old is kept until it has taken
the new: stopped anywhere, one of the two works, and `settle` finds out which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from db.disk import write_new_file
from deployments.joining import install
from fl.joining import replacement_statement
from privacy.secagg.keys import PublicIdentity
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.site import (
    SiteSettings,
    credential_file,
    keys_directory,
    make_identity,
    read_credential,
)
from tasks.hospital.tokens import Credential, new_client_secret

ClientOf = Callable[[Credential], AbstractContextManager[ExchangeClient]]
"""Opens the exchange with a credential."""

_NEXT: Final = ".next"


def rotate_secret(settings: SiteSettings, client_of: ClientOf) -> None:
    """Replaces the client secret; the old one and all its tokens are dead at once.

    Raises:
        ExchangeRefused: the coordinator does not take it; the old one works on.
        httpx.HTTPError: its answer did not come; the next call settles which secret works.
    """
    settle(settings, client_of)
    present = read_credential(settings)
    secret = new_client_secret()
    coming = Credential(client_id=present.client_id, client_secret=SecretStr(secret))
    write_new_file(_next_credential(settings), coming.encode())
    try:
        with client_of(present) as exchange:
            digest = hashlib.sha256(secret.encode()).hexdigest()
            exchange.replace_secret(settings.hospital_id, digest=digest)
    except ExchangeRefused:
        # Retried after a lost answer, the call finds its own success in the way: the token is dead.
        settle(settings, client_of)
        if read_credential(settings) == present:
            raise
        return
    install(_next_credential(settings), credential_file(settings))


def rotate_identity(settings: SiteSettings, client_of: ClientOf) -> PublicIdentity:
    """Replaces the identity keys; the other hospitals have to accept the new fingerprint.

    Raises:
        ExchangeRefused: a round is open for this hospital; the old keys stay.
        httpx.HTTPError: the answer did not come; the next call tells it again.
    """
    settle(settings, client_of)
    keys = keys_directory(settings)
    old, new = make_identity(keys), make_identity(keys, suffix=_NEXT)
    public = new.public.to_hex()
    statement = replacement_statement(
        hospital_id=settings.hospital_id,
        old_signing_key=old.public.signing_key.hex(),
        **public,
    )
    signed = {
        "signature": old.signing.sign(statement).hex(),
        "proof": new.signing.sign(statement).hex(),
    }
    with client_of(read_credential(settings)) as exchange:
        exchange.replace_identity(settings.hospital_id, public | signed)
    _install_identity(keys)
    return new.public


def settle(settings: SiteSettings, client_of: ClientOf) -> None:
    """Ends a replacement that was stopped half-way; nothing when there was none.

    Raises:
        ExchangeRefused: the coordinator takes neither secret; both stay.
        httpx.HTTPError: it does not answer.
    """
    keys = keys_directory(settings)
    if _next(keys, "sealing.key").exists() and not _next(keys, "signing.key").exists():
        _install_identity(keys)  # the coordinator had taken them: one of the two is in its place
    waiting = _next_credential(settings)
    if not waiting.exists():
        return
    if _works(Credential.model_validate_json(waiting.read_bytes()), client_of):
        install(waiting, credential_file(settings))
    elif _works(read_credential(settings), client_of):
        waiting.unlink()
    else:
        raise ExchangeRefused(
            f"the coordinator takes neither {credential_file(settings)} nor {waiting}: ask its "
            f"operator whether {settings.hospital_id} is suspended, or for a new join code"
        )


def _works(credential: Credential, client_of: ClientOf) -> bool:
    try:
        with client_of(credential) as exchange:
            exchange.roster()
    except ExchangeRefused:
        return False
    return True


def _install_identity(keys: Path) -> None:
    for name in ("signing.key", "sealing.key"):
        if _next(keys, name).exists():
            install(_next(keys, name), keys / name)


def _next(keys: Path, name: str) -> Path:
    return keys / f"{name}{_NEXT}"


def _next_credential(settings: SiteSettings) -> Path:
    return credential_file(settings).with_name("credential.next.json")
