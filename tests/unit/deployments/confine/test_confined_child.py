"""What a child cannot do in the real confinement, each beside its control without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

PROGRAM = """
import ctypes, resource, socket, stat, subprocess, tempfile

def tcp():
    socket.create_connection(("127.0.0.1", given["port"]), timeout=5).close()

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", ("127.0.0.1", given["udp_port"]))

def listen():
    socket.create_server(("127.0.0.1", 0)).close()

def write_table():
    with open(root / "data" / "table.csv", "a") as file:
        file.write("")

def add_to_data():
    file = root / "data" / "new.csv"
    file.write_text("")
    file.unlink()

def write_policy():
    with open(root / "north" / "policy.yaml", "a") as file:
        file.write("")

def replace_policy():
    other = root / "north" / "tmp" / "policy.yaml"
    other.write_text("approval: none")
    other.replace(root / "north" / "policy.yaml")

def write_keys():
    with open(root / "north" / "keys" / "signing.key", "a") as file:
        file.write("")

def approve_own_code():
    file = root / "north" / "allowed-flows.json"
    file.write_text("{}")
    file.unlink()

def move_records():
    (root / "north" / "records").rename(root / "north" / "gone")
    (root / "north" / "gone").rename(root / "north" / "records")

def read_other_home():
    (root / "south" / "keys" / "signing.key").read_text()

def list_other_home():
    os.listdir(root / "south")

def read_elsewhere():
    (root / "elsewhere" / "notes.txt").read_text()

def write_elsewhere():
    file = root / "elsewhere" / "new"
    file.write_text("")
    file.unlink()

def read_worker_s_environment():
    Path(f"/proc/{os.getppid()}/environ").read_bytes()
    Path(f"/proc/{given['outside']}/environ").read_bytes()

def signal_outside():
    os.kill(given["outside"], 0)

def gain_privileges():
    assert ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0, "no_new_privs"  # PR_GET_NO_NEW_PRIVS

def use_root():
    os.chown(root / "north" / "tmp", 12345, 12345)
    os.chown(root / "north" / "tmp", os.getuid(), os.getgid())

def run_own_program():
    program = root / "north" / "tmp" / "program"
    program.write_text("#!/bin/sh\\nexit 0\\n")
    program.chmod(0o700)
    try:
        subprocess.run([program], check=True)
    finally:
        program.unlink()

def read_shared_memory():
    Path(given["shared"]).read_text()

def leave_core():
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0, "no core files"

def find_secrets():
    assert any("planted" in value for value in os.environ.values()), "no secret"

def read_table():
    assert (root / "data" / "table.csv").read_text().startswith("age")

def read_own_keys():
    (root / "north" / "keys" / "signing.key").read_text()

def write_records():
    import sqlite3
    with sqlite3.connect(root / "north" / "records" / "site.db") as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table if not exists t (x)")
        database.execute("insert into t values (1)")

def write_temporary():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")

def start_helpers():
    subprocess.run([sys.executable, "-c", "import privacy.secagg.masking"], check=True)

def share_memory_with_helpers():
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()

ATTACKS = (tcp, udp, listen, write_table, add_to_data, write_policy, replace_policy, write_keys,
    approve_own_code, move_records, read_own_keys, read_other_home, list_other_home,
    read_elsewhere, write_elsewhere, read_worker_s_environment, signal_outside, gain_privileges,
    use_root, run_own_program, read_shared_memory, leave_core, find_secrets, read_table,
    write_records, write_temporary, start_helpers, share_memory_with_helpers)

def entry(request):
    found = {}
    for attack in ATTACKS:
        try:
            attack()
            found[attack.__name__] = "done"
        except Exception as error:
            found[attack.__name__] = f"{type(error).__name__}: {error}"
    found["temporary"] = tempfile.gettempdir()
    os.write(1, (json.dumps(found) + "\\n").encode())
    return ""

resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
children(entry, [{}], confined=given["confined"])
"""

ATTACKS = (
    *("tcp", "udp", "write_table", "add_to_data", "read_other_home", "list_other_home"),
    *("read_elsewhere", "write_elsewhere", "read_worker_s_environment", "signal_outside"),
    *("gain_privileges", "run_own_program", "read_shared_memory", "leave_core", "find_secrets"),
    *("listen", "write_policy", "replace_policy", "write_keys", "approve_own_code"),
    "move_records",
)
NEEDS = ("read_table", "read_own_keys", "write_records", "write_temporary", "start_helpers")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def confined(run_children: Run) -> Mapping[str, str]:
    found: Mapping[str, str] = run_children(PROGRAM, confined=True)
    return found


@pytest.fixture(scope="module")
def free(run_children: Run) -> Mapping[str, str]:
    found: Mapping[str, str] = run_children(PROGRAM, confined=False)
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_confined_child_cannot(
    confined: Mapping[str, str], free: Mapping[str, str], attack: str
) -> None:
    assert free[attack] == "done"  # else the check below would prove nothing
    assert confined[attack] != "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to lose")
def test_a_child_of_root_has_no_privilege_of_root(
    confined: Mapping[str, str], free: Mapping[str, str]
) -> None:
    assert free["use_root"] == "done"
    assert confined["use_root"].startswith("PermissionError")


@pytest.mark.parametrize("need", [*NEEDS, "share_memory_with_helpers"])
def test_a_confined_child_can_still(confined: Mapping[str, str], need: str) -> None:
    assert confined[need] == "done"


def test_temporary_files_lie_in_the_hospital_s_home(confined: Mapping[str, str]) -> None:
    assert confined["temporary"].endswith("/north/tmp")


def test_the_network_is_not_just_refused_but_absent(confined: Mapping[str, str]) -> None:
    assert "unreachable" in confined["udp"]
