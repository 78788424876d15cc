"""Joining, on the hospital's side: keys and secret are made here, only their public halves leave.

    site = join(Joining(api_url=url, code=parse_join_code(text), hospitals=folder), http)

1. Keys and client secret are made below ``.joining/<code>`` and are on the disk before the code is
   spent.
2. The coordinator is shown the public keys, the secret's SHA-256 and a proof that the keys are
   held. Its answer is kept.
3. The files move to the hospital's own folder, those they replace are moved aside, the credential
   last; then the site file is written.

Stopped anywhere, the same command with the same code goes on where it was: the coordinator answers
the same keys again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from db.disk import replace_file, sync_folder
from deployments.errors import OperatorError
from fl.invitation import HospitalId
from fl.joining import code_digest, join_statement
from privacy.secagg.keys import Identity
from tasks.hospital.site import make_identity, make_split_key, secret_at
from tasks.hospital.site_file import SiteFile, sites_below, write_site_file
from tasks.hospital.tls import AddressRefused, Trust, require_tls
from tasks.hospital.tokens import Credential, new_client_secret
from tasks.hospital.way import Way

_MARK_DIGITS: Final = 16
_CREDENTIAL: Final = "credential.json"
_ANSWER: Final = "joined.json"
_REPLACED: Final = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What a hospital joins with.

    Attributes:
        api_url: the coordinator's one address; see `checked_address`.
        code: the join code, parsed.
        hospitals: the folder of this machine's hospitals.
        data_path: its table, if it is known already.
        ca_file: certificates to trust instead of the system's, PEM.
        again: keys that are there may be replaced; they are moved aside.
        allow_plain_http: its people have accepted that the way there is not encrypted.
    """

    api_url: str
    code: str
    hospitals: Path
    data_path: Path | None = None
    ca_file: Path | None = None
    again: bool = False
    allow_plain_http: bool = False

    @property
    def way(self) -> Way:
        """The way to the coordinator."""
        return Way(self.api_url, Trust(self.ca_file, self.allow_plain_http))

    @property
    def mark(self) -> str:
        """Tells this code from others, without being it."""
        return code_digest(self.code)[:_MARK_DIGITS]

    @property
    def staging(self) -> Path:
        """Where the secrets lie until the hospital has its folder."""
        return self.hospitals / ".joining" / self.mark


class Answer(BaseModel):
    """What the coordinator answers to a hospital that has joined."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hospital_id: HospitalId
    client_id: str
    name: str


def checked_address(api_url: str, *, allow_plain_http: bool = False) -> str:
    """Returns the address in its one form.

    Raises:
        OperatorError: it is no address, or not encrypted and not of this machine.
    """
    try:
        require_tls(api_url, allow_plain_http=allow_plain_http)
    except AddressRefused as error:
        raise OperatorError(str(error)) from None
    return api_url.rstrip("/")


def join(joining: Joining, client: httpx.Client) -> SiteFile:
    """Makes this machine the site of the hospital that the code is for; returns its site file.

    Raises:
        OperatorError: the code is refused, the coordinator is away, or keys of the hospital are
            here and nobody said that they may be replaced.
    """
    site = _joined_before(joining) or _join(joining, client)
    site = site.given(data_path=joining.data_path, ca_file=joining.ca_file)
    write_site_file(joining.hospitals / site.hospital_id, site)
    shutil.rmtree(joining.staging, ignore_errors=True)
    return site


def _joined_before(joining: Joining) -> SiteFile | None:
    found = (s for s in sites_below(joining.hospitals) if s.joined_with == joining.mark)
    return next(found, None)


def _join(joining: Joining, client: httpx.Client) -> SiteFile:
    keys = joining.staging / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    answer_file = joining.staging / _ANSWER
    if answer_file.exists():
        answer = Answer.model_validate_json(answer_file.read_bytes())
    else:
        answer = _ask(joining, client, keys)
        secret = (keys / "client_secret").read_text()
        credential = Credential(client_id=answer.client_id, client_secret=SecretStr(secret))
        replace_file(keys / _CREDENTIAL, credential.encode())
        replace_file(answer_file, answer.model_dump_json().encode())
    _place(joining, answer.hospital_id, keys)
    return SiteFile(
        hospital_id=answer.hospital_id,
        api_url=joining.api_url,
        joined_with=joining.mark,
        allow_plain_http=joining.allow_plain_http,
    )


def _ask(joining: Joining, client: httpx.Client, keys: Path) -> Answer:
    """Spends the code, once all that must not be lost is on the disk."""
    identity = make_identity(keys)
    make_split_key(keys)
    secret = secret_at(keys / "client_secret", lambda: new_client_secret().encode())
    for folder in (joining.staging, joining.staging.parent, joining.hospitals):
        sync_folder(folder)
    return _answer_to(joining, client, join_request(joining.code, identity, secret))


def join_request(code: str, identity: Identity, secret: bytes) -> dict[str, str]:
    """Returns what leaves the hospital: public keys, the secret's digest, the proof."""
    public = identity.public.to_hex()
    digest = hashlib.sha256(secret).hexdigest()
    statement = join_statement(code_digest=code_digest(code), **public, secret_digest=digest)
    proof = identity.signing.sign(statement).hex()
    return {"code": code, **public, "client_secret_sha256": digest, "proof": proof}


def _answer_to(joining: Joining, client: httpx.Client, request: dict[str, str]) -> Answer:
    try:
        response = client.post(f"{joining.api_url}/hospitals/join", json=request)
    except httpx.TransportError as error:
        raise OperatorError(
            f"the coordinator at {joining.api_url} does not answer ({type(error).__name__}: "
            f"{error}); a certificate of its own needs --ca-file; run the same command again"
        ) from None
    if response.status_code != HTTPStatus.OK:
        raise OperatorError(f"the coordinator did not take the code: {_detail(response)}")
    try:
        return Answer.model_validate_json(response.content)
    except ValidationError:
        raise OperatorError(
            f"what answers at {joining.api_url} is no coordinator: check the address"
        ) from None


def _detail(response: httpx.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    again = "; run the same command again" if response.is_server_error else ""
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return f"{detail or f'HTTP {response.status_code}'}{again}"


def _place(joining: Joining, hospital_id: str, staged: Path) -> None:
    """Moves what was made into the hospital's folder; the credential last, it makes a site."""
    keys = joining.hospitals / hospital_id / "keys"
    _refuse_to_replace(joining, hospital_id, keys, staged)
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("signing.key", "sealing.key", "split.key", _CREDENTIAL):
        if not (staged / name).exists():
            continue  # moved before a stop
        if name == "split.key" and (keys / name).exists():
            continue  # which rows are held out must never change
        install(staged / name, keys / name)
    for folder in (keys, keys.parent, keys.parent.parent):
        sync_folder(folder)


def _refuse_to_replace(joining: Joining, hospital_id: str, keys: Path, staged: Path) -> None:
    begun = not (staged / "signing.key").exists()
    if joining.again or begun:
        return
    if there := [name for name in ("signing.key", _CREDENTIAL) if (keys / name).exists()]:
        raise OperatorError(
            f"{hospital_id} has joined, but {keys} holds {' and '.join(there)} of before: run the "
            f"same command with --again, which moves them to {keys / _REPLACED}"
        )


def install(new: Path, place: Path) -> None:
    """Moves a secret to its place; one that is there is kept aside. Never is there none."""
    if place.exists():
        aside = place.parent / _REPLACED
        aside.mkdir(mode=0o700, exist_ok=True)
        kept = aside / f"{place.name}.{place.stat().st_mtime_ns}"
        if not kept.exists():
            os.link(place, kept)
        sync_folder(aside)
    os.replace(new, place)
    sync_folder(place.parent)
