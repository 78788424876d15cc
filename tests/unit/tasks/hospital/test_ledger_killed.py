"""Killed at any write of its ledger, a hospital leaves no upload uncharged, none charged twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

from db.site_ledger import SiteLedger
from privacy.ledger import Charge
from tasks.hospital.ledger import HospitalLedger

TRAINING = UUID(int=7)
ROUNDS = 2

# It takes part in a training, round by round, as often as it is started: a charge, then the upload.
# Each start is a process of its own, killed at the k-th write: before it, halfway, or after it.
CHILD = """
import os, shutil, signal, sys
from itertools import count
from pathlib import Path
from uuid import UUID
import sqlalchemy as sa
from db.site_ledger import SiteLedger
from privacy.ledger import Charge, Limits, Release, Reservation
from privacy.mechanisms import Gaussian, Repeated
from tasks.hospital.ledger import HospitalLedger

root, what = Path(sys.argv[1]), sys.argv[2]
limits = Limits(epsilon_per_training=4, epsilon_total=8, delta=1e-5)
rows = {"training": UUID(int=7), "cohort": "all", "fingerprint": "f", "split": "s"}
rounds, step, counts = 2, Gaussian(5.0), Gaussian(8.0)

def open_ledger(home):
    return HospitalLedger(SiteLedger(home / "ledger.db", witness=home / "witness.jsonl"))

def take_part(home):
    ledger = open_ledger(home)
    plan = {"training": Repeated(step, rounds), "held-out": Repeated(counts, rounds + 1)}
    ledger.accept([Reservation(**rows, rounds=rounds, mechanisms=plan)], limits=limits)
    for number in range(1, rounds + 1):
        attempt = {"number": number, "round_id": UUID(int=number)}
        ledger.accept([
            Charge(**rows, **attempt, part="training", mechanism=step),
            Charge(**rows, **attempt, part="held-out", mechanism=counts),
        ], limits=limits)
        with (home / "uploaded").open("a") as file:
            print(number, file=file)
    ledger.accept([Release(training=rows["training"], reason="closed")], limits=limits)

def repair(home):
    open_ledger(home).repair()

def deadly(at):
    # Makes the at-th moment of this process its last.
    moments = count(1)
    def moment():
        if next(moments) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    write, fsync, replace = os.write, os.fsync, Path.replace
    def in_halves(descriptor, data):
        moment()
        written = write(descriptor, data[: max(1, len(data) // 2)])
        moment()
        return written + write(descriptor, data[written:])
    def synced(descriptor):
        moment()
        fsync(descriptor)
        moment()
    def replaced(*paths):
        moment()
        return replace(*paths)
    os.write, os.fsync, Path.replace = in_halves, synced, replaced
    sa.event.listen(sa.Engine, "commit", lambda connection: moment())

rehearsal = root / "rehearsal"
take_part(rehearsal)  # prices everything once, so that the children need not
for at in count(1):
    home = root / str(at)
    home.mkdir()
    if what == "repair":
        shutil.copy(rehearsal / "witness.jsonl", home)  # the database is lost
    pid = os.fork()
    if pid == 0:
        deadly(at)
        {"take_part": take_part, "repair": repair}[what](home)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    if status == 0:
        print(at)
        break
    uploaded = (home / "uploaded").read_text() if (home / "uploaded").exists() else ""
    (home / "uploaded-when-killed").write_text(uploaded)
    if what == "take_part":
        shutil.copytree(home, root / f"{at}-as-killed")
        take_part(home)
"""


def run(root: Path, what: str) -> int:
    """Kills a process at each of its moments; returns how many there are."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), what],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) - 1


def opened(home: Path) -> HospitalLedger:
    return HospitalLedger(SiteLedger(home / "ledger.db", witness=home / "witness.jsonl"))


def charges(home: Path) -> list[Charge]:
    ledger = opened(home)
    ledger.verified()
    return list(ledger.accounts().charges)


def test_killed_at_any_write_no_upload_is_uncharged_and_nothing_counts_twice(
    tmp_path: Path,
) -> None:
    moments = run(tmp_path, "take_part")
    assert moments >= 4 * 5  # four appends: commit, two halves of a write, before and after fsync
    whole = [(number, part) for number in (1, 2) for part in ("training", "held-out")]
    seen = set()
    for at in range(1, moments + 1):
        killed = tmp_path / f"{at}-as-killed"
        uploaded = (tmp_path / str(at) / "uploaded-when-killed").read_text().split()
        found = [(charge.number, charge.part) for charge in charges(killed)]
        assert found == whole[: len(found)]
        assert len(found) in (2 * len(uploaded), 2 * len(uploaded) + 2)
        seen.add((len(uploaded), len(found)))
        # Started again, it has done all of it, once.
        assert [(charge.number, charge.part) for charge in charges(tmp_path / str(at))] == whole
        assert not opened(tmp_path / str(at)).accounts().is_open(TRAINING)
    assert seen == {(0, 0), (0, 2), (1, 2), (1, 4), (2, 4)}


def test_a_repair_that_is_killed_is_repaired_again(tmp_path: Path) -> None:
    moments = run(tmp_path, "repair")
    assert moments >= 5
    expected = charges(tmp_path / "rehearsal")
    for at in range(1, moments + 1):
        ledger = opened(tmp_path / str(at))
        ledger.repair()
        assert list(ledger.accounts().charges) == expected
        assert charges(tmp_path / str(at)) == expected
