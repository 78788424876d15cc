"""A real PostgreSQL and a certificate authority for the tests.

One embedded server and one migrated database a session.

The database is emptied after each test that used it. Making a new one for each, from a template,
takes a quarter of a second; emptying it takes milliseconds.
"""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from db.blobs import BlobStore
from db.embedded import EmbeddedServer, ensure_databases, start_embedded
from db.migrate import upgrade
from db.models import Base
from db.session import connect
from db.settings import DatabaseSettings

_DATABASE = "fedmed_test"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    """The server of this session."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="fedmed-test-") as folder:
        server = start_embedded(Path(folder) / "postgres", durable=False)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def _migrated_url(postgres: EmbeddedServer) -> str:
    ensure_databases(postgres, (_DATABASE,))
    url = postgres.url(_DATABASE)
    upgrade(url)
    return url


@pytest.fixture
def database_url(_migrated_url: str) -> Iterator[str]:
    """The address of a migrated database in which nothing is written yet."""
    yield _migrated_url
    _empty(_migrated_url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database."""
    opened = connect(DatabaseSettings(database_url=database_url))
    yield opened
    opened.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """An open transaction on an empty database, rolled back after the test."""
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """A blob store on the local disk."""
    return BlobStore(str(tmp_path / "blobs"))


def _keys_of(hospital_id: str) -> dict[str, str]:
    return {
        name: sha256(f"{name} of {hospital_id}".encode()).hexdigest()
        for name in ("signing_key", "sealing_key")
    }


@pytest.fixture
def keys_of() -> Callable[[str], dict[str, str]]:
    """Public keys as a hospital publishes them; each hospital has its own."""
    return _keys_of


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that exists for a test; everything it issues lies in its folder."""

    folder: Path
    name: str = "test authority"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def file(self) -> Path:
        """Its own certificate."""
        path = self.folder / f"{self.name}.pem"
        if not path.exists():
            path.write_bytes(self._certificate(self.name, self.key.public_key(), None, 0, 1))
        return path

    def issue(
        self, host: str = "127.0.0.1", *, days: tuple[float, float] = (-1, 30), name: str = "server"
    ) -> tuple[Path, Path]:
        """Issues a certificate for a host, valid from and until days from now; its key is new."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = (self.folder / f"{name}.{part}" for part in ("crt", "key"))
        cert_file.write_bytes(self._certificate(name, key.public_key(), host, *days))
        key_file.unlink(missing_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert_file, key_file

    def _certificate(
        self, name: str, public: ec.EllipticCurvePublicKey, host: str | None, *days: float
    ) -> bytes:
        begins, ends = (datetime.now(UTC) + timedelta(days=day) for day in days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            alternative = x509.SubjectAlternativeName([_general_name(host)])
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(scope="session")
def authority_in() -> Callable[[Path], Authority]:
    """Makes an authority that lives as long as a folder."""
    return Authority


def _empty(url: str) -> None:
    """Ends the connections a test has left behind and deletes all it has written."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        # Past the triggers that keep the audit record, and in any order of the tables.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in Base.metadata.tables:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 (our own tables)
