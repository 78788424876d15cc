from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from db.embedded import EmbeddedServer, ensure_databases, start_embedded
from db.errors import ServerFailed

pytestmark = pytest.mark.integration


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: pytest's own may be too long for a socket, which is another test."""
    with tempfile.TemporaryDirectory(prefix="fedmed-test-") as name:
        yield Path(name)


def wait_until_ended(pid: int) -> None:
    process = os.pidfd_open(pid)
    select.select([process], [], [], 10)
    os.close(process)


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def ask(server: EmbeddedServer, query: str, database: str = "postgres") -> object:
    engine: Engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def setting(server: EmbeddedServer, name: str, database: str = "postgres") -> object:
    return ask(server, f"SHOW {name}", database)


def test_data_survives_a_restart_and_nothing_runs_in_between(folder: Path) -> None:
    server = start_embedded(folder / "postgres")
    ensure_databases(server, ("fedmed", "odd name"))
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert setting(server, name, "fedmed") == "on"
    server.stop()

    assert not runs(server.pid)
    server.stop()

    again = start_embedded(folder / "postgres", durable=False)
    try:
        ensure_databases(again, ("fedmed", "odd name"))
        assert ask(again, "SELECT current_database()", "odd name") == "odd name"
    finally:
        again.stop()


def test_it_listens_on_a_private_socket_only(postgres: EmbeddedServer) -> None:
    assert setting(postgres, "listen_addresses") == ""
    assert stat.S_IMODE(postgres.socket_dir.stat().st_mode) == 0o700
    listening = [c for c in psutil.Process(postgres.pid).net_connections() if c.status == "LISTEN"]
    assert listening == []


def test_a_database_may_be_told_not_to_wait_for_the_disk(postgres: EmbeddedServer) -> None:
    ensure_databases(postgres, ("relaxed", "strict"), asynchronous=("relaxed",))

    assert setting(postgres, "synchronous_commit", "relaxed") == "off"
    assert setting(postgres, "synchronous_commit", "strict") == "on"


def test_prefects_extension_is_there(postgres: EmbeddedServer) -> None:
    ensure_databases(postgres, ("with_trgm",))
    engine = create_engine(postgres.url("with_trgm"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION pg_trgm"))


def test_the_address_of_the_asynchronous_driver(postgres: EmbeddedServer) -> None:
    assert postgres.asyncpg_url("prefect").startswith("postgresql+asyncpg://postgres@/prefect?host")


def test_a_server_left_by_a_killed_process_is_taken_over_and_stopped(folder: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; "
        "from db.embedded import start_embedded; "
        "print(start_embedded(Path(sys.argv[1]), durable=False).pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(folder / "postgres")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = int(killed.stdout)

    taken_over = start_embedded(folder / "postgres", durable=False)

    assert taken_over.pid == left
    taken_over.stop()
    assert not runs(left)


def test_it_recovers_after_the_server_was_killed(folder: Path) -> None:
    server = start_embedded(folder / "postgres", durable=False)
    ensure_databases(server, ("fedmed",))
    with closing(psycopg2.connect(host=str(server.socket_dir), user="postgres")):
        # A client holds on to it: its process outlives the main one for a moment.
        os.kill(server.pid, signal.SIGKILL)
        wait_until_ended(server.pid)
        again = start_embedded(folder / "postgres", durable=False)
    try:
        assert again.pid != server.pid
        assert ask(again, "SELECT 1", "fedmed") == 1
    finally:
        again.stop()


def test_a_stale_process_id_that_another_program_has_now_does_not_matter(folder: Path) -> None:
    directory = folder / "postgres"
    start_embedded(directory, durable=False).stop()
    stale = f"{os.getpid()}\n{directory}\n0\n5432\n{directory}\n\n  1  2\nready   \n"
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (directory / name).write_text(stale)

    server = start_embedded(directory, durable=False)
    try:
        assert server.pid != os.getpid()
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    directory = folder / ("deep" * 25) / "it's here" / "postgres"
    directory.parent.mkdir(parents=True)

    server = start_embedded(directory, durable=False)
    try:
        assert server.socket_dir != directory
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert ask(server, "SHOW data_directory") == str(directory)
    finally:
        server.stop()
    assert not server.socket_dir.exists()


def test_a_folder_with_other_things_in_it_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").write_text("years of work")

    with pytest.raises(ServerFailed, match="holds no PostgreSQL data"):
        start_embedded(folder)

    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_an_interrupted_initialisation_is_begun_anew(folder: Path) -> None:
    half_done = folder / "postgres.new"
    half_done.mkdir()
    (half_done / "PG_VERSION").write_text("18\n")
    (folder / "postgres").mkdir()

    start_embedded(folder / "postgres", durable=False).stop()

    assert not half_done.exists()


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    start_embedded(folder / "postgres", durable=False).stop()
    (folder / "postgres" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(ServerFailed, match="no_such_setting"):
        start_embedded(folder / "postgres", durable=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the server as another user")
def test_as_root_the_folders_above_stay_unreadable_to_others(folder: Path) -> None:
    above = folder / "state"
    above.mkdir(mode=0o700)

    server = start_embedded(above / "postgres", durable=False)
    try:
        assert psutil.Process(server.pid).uids().effective != 0
        assert stat.S_IMODE(above.stat().st_mode) == 0o701
    finally:
        server.stop()
