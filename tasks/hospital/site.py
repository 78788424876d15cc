"""A hospital's site: its data, its keys and its own store, all of them on its own disk.

settings = SiteSettings()          # FEDMED_HOSPITAL_ID, FEDMED_DATA_PATH, … of this process
site = open_site(settings)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.disk import write_new_file
from db.site_approvals import SiteApprovals
from db.site_evaluations import SiteEvaluations
from db.site_ledger import SiteLedger
from db.site_store import SiteStore
from fl.invitation import HospitalId
from fl.names import gateway_url
from fl.spec import LEAST_COHORT
from privacy.secagg.keys import Identity
from tasks.hospital.ledger import HospitalLedger
from tasks.hospital.tls import Trust
from tasks.hospital.tokens import Credential, HospitalAuth
from tasks.hospital.way import Way

_SPLIT_KEY_BYTES: Final = 32

PeerRule = Literal["accepted", "first-use"]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]


class SiteSettings(BaseSettings):
    """Where one hospital's site lies; read from its own environment, never from the coordinator.

    Attributes:
        hospital_id: the hospital.
        hospital_home: directory of its keys, store and logs.
        data_path: its table, a CSV file or a folder with one.
        api_url: the coordinator's one address.
        peers: ``accepted`` takes part only with hospitals whose keys a person here has accepted;
            ``first-use`` accepts the keys that an invitation shows first.
        least_cohort: fewest hospitals, this one included, with which it takes part; the policy may
            want more.
        ca_file: PEM file with the authority that signs the coordinator's certificate; the machine's
            own authorities unless set.
        allow_plain_http: speaks plain HTTP to another machine too, to try things out.
        ledger_witness: folder of the ledger's second copy; beside the ledger unless set. On another
            disk it shows that the whole site was restored from a backup.
        confinement: ``available`` runs trainings with every layer of confinement that the system
            offers; ``required`` starts only with all of them.
        child_memory_mb: MiB of its own data that one run may hold.
        child_cpu_s: seconds of processor time that one run may take; its deadline may leave less.
        coordinator_socket: Unix socket on which the worker passes bytes on to the coordinator; set
            for its children, which have no network.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    hospital_id: HospitalId
    hospital_home: AbsolutePath
    data_path: AbsolutePath
    api_url: str
    peers: PeerRule = "accepted"
    least_cohort: Annotated[int, Field(ge=LEAST_COHORT)] = LEAST_COHORT
    ledger_witness: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None
    allow_plain_http: bool = False

    confinement: Literal["required", "available"] = "available"
    child_memory_mb: Annotated[int, Field(ge=256, le=1 << 22)] = 16_384
    child_cpu_s: Annotated[int, Field(ge=1, le=1 << 24)] = 86_400
    coordinator_socket: Path | None = None

    @property
    def way(self) -> Way:
        """The way to the coordinator."""
        return Way(self.api_url, self.trust, self.coordinator_socket)

    @property
    def gateway_url(self) -> str:
        """The address under which the coordinator serves Prefect's API to this hospital."""
        return gateway_url(self.api_url)

    @property
    def trust(self) -> Trust:
        """Whom this hospital takes for its coordinator."""
        return Trust(ca_file=self.ca_file, allow_plain_http=self.allow_plain_http)

    def environment(self) -> dict[str, str]:
        """Returns the variables from which a child reads the same settings."""
        return {
            "FEDMED_HOSPITAL_ID": self.hospital_id,
            "FEDMED_HOSPITAL_HOME": str(self.hospital_home),
            "FEDMED_DATA_PATH": str(self.data_path),
            "FEDMED_API_URL": self.api_url,
            "FEDMED_PEERS": self.peers,
            "FEDMED_LEAST_COHORT": str(self.least_cohort),
            "FEDMED_LEDGER_WITNESS": str(self.ledger_witness or ""),
            "FEDMED_CA_FILE": str(self.ca_file or ""),
            "FEDMED_ALLOW_PLAIN_HTTP": str(self.allow_plain_http),
            "FEDMED_COORDINATOR_SOCKET": str(self.coordinator_socket or ""),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An opened site.

    Attributes:
        settings: where it lies.
        identity: the private keys under which the other hospitals know this one.
        split_key: the secret that fixes which rows are held out of training.
        auth: signs its requests to the coordinator in.
        store: its own durable record.
        ledger: its record of privacy loss.
        approvals: what its people have decided on trainings.
        evaluations: its own figures of finished trainings, which stay here.
    """

    settings: SiteSettings
    identity: Identity
    split_key: bytes
    auth: HospitalAuth
    store: SiteStore
    ledger: HospitalLedger
    approvals: SiteApprovals
    evaluations: SiteEvaluations


class SiteIncomplete(Exception):
    """A file that the site needs is missing; the text names it and what makes it."""


def open_site(settings: SiteSettings) -> Site:
    """Opens the site; makes its keys when it has none.

    Raises:
        SiteIncomplete: there is no credential, or the records lie where they lay before.
    """
    read_credential(settings)  # first: a mistyped id must not make keys
    keys = keys_directory(settings)
    database = records_directory(settings) / "site.db"
    store = SiteStore(database)
    return Site(
        settings=settings,
        identity=make_identity(keys),
        split_key=make_split_key(keys),
        auth=auth_of(settings),
        store=store,
        approvals=SiteApprovals(database, store),
        evaluations=SiteEvaluations(database),
        ledger=open_ledger(settings),
    )


def records_directory(settings: SiteSettings) -> Path:
    """Returns the folder of the store and the ledger, the one part of the home that a run writes.

    Raises:
        SiteIncomplete: a ledger lies above it, from an earlier version: a new one would forget what
            patients' data has been spent.
    """
    records = settings.hospital_home / "records"
    if (settings.hospital_home / "ledger.db").exists():
        raise SiteIncomplete(
            f"records of an earlier version lie in {settings.hospital_home}; while no hospital "
            f"runs, move its site.db* and ledger* to {records}"
        )
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    return records


def open_ledger(settings: SiteSettings) -> HospitalLedger:
    """Returns the site's ledger; what is wrong with it shows at its first use."""
    records = records_directory(settings)
    witness = records / "ledger-witness.jsonl"
    if settings.ledger_witness is not None:
        # The hospitals of a demo share their environment, and so this folder.
        witness = settings.ledger_witness / f"{settings.hospital_id}-{witness.name}"
    return HospitalLedger(SiteLedger(records / "ledger.db", witness=witness))


@lru_cache(maxsize=16)
def auth_of(settings: SiteSettings) -> HospitalAuth:
    """Returns what signs a site's requests in; all clients of a process share its token."""
    return HospitalAuth(settings.api_url, partial(read_credential, settings))


def credential_file(settings: SiteSettings) -> Path:
    """Returns where the site's credential lies."""
    return keys_directory(settings) / "credential.json"


def read_credential(settings: SiteSettings) -> Credential:
    """Returns the site's credential.

    Raises:
        SiteIncomplete: there is none.
    """
    path = credential_file(settings)
    try:
        return Credential.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SiteIncomplete(
            f"no credential at {path}; ask the coordinator's operator for a join code for "
            f"{settings.hospital_id!r}, then `fedmed hospital join {settings.api_url} CODE`"
        ) from None


def keys_directory(settings: SiteSettings) -> Path:
    """Returns the directory of the site's secrets, which is made when it is missing."""
    keys = settings.hospital_home / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    return keys


def make_identity(keys: Path, *, suffix: str = "") -> Identity:
    """Returns the identity keys in a directory of secrets; makes those that are missing."""
    signing = secret_at(keys / f"signing.key{suffix}", _signing)
    sealing = secret_at(keys / f"sealing.key{suffix}", _sealing)
    return Identity(
        signing=Ed25519PrivateKey.from_private_bytes(signing),
        sealing=X25519PrivateKey.from_private_bytes(sealing),
    )


def make_split_key(keys: Path) -> bytes:
    """Returns the secret that fixes which rows are held out; makes it when it is missing."""
    return secret_at(keys / "split.key", lambda: secrets.token_bytes(_SPLIT_KEY_BYTES))


def secret_at(path: Path, make: Callable[[], bytes]) -> bytes:
    """Returns a secret; makes it when it is missing. It is on the disk when this returns."""
    if not path.exists():
        write_new_file(path, make())
    return path.read_bytes()


def _signing() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes_raw()


def _sealing() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()
