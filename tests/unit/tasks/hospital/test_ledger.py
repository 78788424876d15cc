"""The hospital's ledger: rules and store together, several processes, a person's commands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.errors import LedgerRolledBack
from db.site_ledger import SiteLedger
from privacy.accounting import adaptive_epsilon
from privacy.errors import BudgetExceeded, ChargeConflict, UnknownMechanism
from privacy.ledger import Charge, Limits, Release, Reservation, to_plain
from privacy.mechanisms import Gaussian, Repeated
from tasks.hospital.ledger import HospitalLedger, NoSuchTraining

LIMITS = Limits(epsilon_per_training=4.0, epsilon_total=6.0, delta=1e-5)
TRAINING = UUID(int=1)
ROWS: Any = {"training": TRAINING, "cohort": "all", "fingerprint": "f", "split": "s"}
STEP, COUNT = Gaussian(5.0), Gaussian(8.0)
RESERVATION = Reservation(
    **ROWS, rounds=4, mechanisms={"training": Repeated(STEP, 4), "held-out": Repeated(COUNT, 5)}
)


@pytest.fixture
def store(tmp_path: Path) -> SiteLedger:
    return SiteLedger(tmp_path / "ledger.db", witness=tmp_path / "witness.jsonl")


@pytest.fixture
def ledger(store: SiteLedger) -> HospitalLedger:
    return HospitalLedger(store)


def charge(number: int, attempt: int = 0) -> Charge:
    round_id = UUID(int=100 * number + attempt)
    return Charge(**ROWS, number=number, round_id=round_id, part="training", mechanism=STEP)


def spent(ledger: HospitalLedger) -> float:
    return ledger.accounts().spent_epsilon("all", delta=1e-5)


def test_what_is_accepted_is_read_by_the_next_process(
    ledger: HospitalLedger, tmp_path: Path
) -> None:
    ledger.accept([RESERVATION], limits=LIMITS)
    assert ledger.accept([charge(1)], limits=LIMITS) == (replace(charge(1), limits=LIMITS),)
    assert ledger.accept([charge(1)], limits=LIMITS) == ()

    after = HospitalLedger(SiteLedger(tmp_path / "ledger.db", witness=tmp_path / "witness.jsonl"))
    assert after.accept([RESERVATION, charge(1)], limits=LIMITS) == ()
    assert spent(after) == spent(ledger) > 0
    assert [row.kind for row in after.verified()] == ["reservation", "charge"]


def test_what_does_not_fit_is_not_written(ledger: HospitalLedger) -> None:
    with pytest.raises(BudgetExceeded):
        ledger.accept([RESERVATION], limits=replace(LIMITS, epsilon_per_training=1.0))
    foreseen = [charge(number) for number in range(50)]
    with pytest.raises(BudgetExceeded):
        ledger.accept([RESERVATION], limits=LIMITS, foreseen=foreseen)
    assert ledger.entries() == ()


CHILD = """
import os, sys
from pathlib import Path
from uuid import UUID
from db.site_ledger import SiteLedger
from privacy.errors import BudgetExceeded
from privacy.ledger import Charge, Limits
from privacy.mechanisms import Gaussian
from tasks.hospital.ledger import HospitalLedger

home = Path(sys.argv[1])
limits = Limits(epsilon_per_training=4.0, epsilon_total=6.0, delta=1e-5)
rows = {"training": UUID(int=1), "cohort": "all", "fingerprint": "f", "split": "s"}
for process in range(6):
    if os.fork() == 0:
        ledger = HospitalLedger(SiteLedger(home / "ledger.db", witness=home / "witness.jsonl"))
        accepted = 0
        for number in range(1, 11):
            attempt = {"number": number, "round_id": UUID(int=100 * process + number)}
            mine = Charge(**rows, **attempt, part="training", mechanism=Gaussian(5.0))
            try:
                accepted += len(ledger.accept([mine], limits=limits))
            except BudgetExceeded:
                break
        os._exit(accepted)
print(sum(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(6)))
"""


def test_of_several_processes_no_charge_is_lost_and_the_limit_holds(
    ledger: HospitalLedger, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    accepted = int(done.stdout)
    ledger.verified()
    assert len(ledger.accounts().charges) == accepted
    # As many as fit, and not one more.
    fitting = adaptive_epsilon(Repeated(STEP, accepted), delta=1e-5)
    assert fitting <= LIMITS.epsilon_per_training
    assert adaptive_epsilon(Repeated(STEP, accepted + 1), delta=1e-5) > LIMITS.epsilon_per_training


def test_a_person_releases_what_a_training_has_not_used(ledger: HospitalLedger) -> None:
    ledger.accept([RESERVATION, charge(1)], limits=LIMITS)
    ledger.release(TRAINING)
    assert ledger.accounts().committed_epsilon("all", delta=1e-5) == spent(ledger)
    for unknown in (TRAINING, uuid4()):
        with pytest.raises(NoSuchTraining, match=f"training {unknown} has no open reservation"):
            ledger.release(unknown)
    assert [row.details for row in ledger.verified()][2] == {
        "training": str(TRAINING),
        "reason": "person",
    }


def test_a_person_charges_rounds_that_are_missing_whatever_the_limits_say(
    ledger: HospitalLedger,
) -> None:
    tight = replace(LIMITS, epsilon_per_training=1.6)
    ledger.accept([RESERVATION], limits=tight)
    assert ledger.make_good(TRAINING, rounds=6) == 12
    expected = adaptive_epsilon(Repeated(STEP, 6), delta=1e-5)
    assert spent(ledger) == pytest.approx(expected, rel=1e-12)
    assert expected > tight.epsilon_per_training
    ledger.verified()
    with pytest.raises(BudgetExceeded):
        ledger.accept([charge(1)], limits=tight)
    with pytest.raises(NoSuchTraining, match="nothing says what a round of it releases"):
        ledger.make_good(uuid4(), rounds=1)


def test_what_only_the_witness_knows_is_charged_again_after_two_histories(
    ledger: HospitalLedger, tmp_path: Path
) -> None:
    database, witness = tmp_path / "ledger.db", tmp_path / "witness.jsonl"
    ledger.accept([RESERVATION, charge(1)], limits=LIMITS)
    old = {file: file.read_bytes() for file in (database, witness)}
    ledger.accept([charge(2), charge(3)], limits=LIMITS)
    ledger.accept([Release(training=TRAINING, reason="closed")], limits=LIMITS)
    newer = witness.read_bytes()
    for file, content in old.items():
        file.write_bytes(content)
    ledger.accept([charge(2), charge(2, attempt=1)], limits=LIMITS)
    witness.write_bytes(newer)

    with pytest.raises(LedgerRolledBack):
        ledger.accept([charge(4)], limits=LIMITS)
    repaired = ledger.repair()
    assert repaired is not None
    assert (repaired.restored, repaired.carried) == (0, 1)
    attempts = [(c.number, c.round_id.int % 100) for c in ledger.accounts().charges]
    assert attempts == [(1, 0), (2, 0), (2, 1), (3, 0)]
    assert ledger.accounts().is_open(TRAINING)  # a person may release it
    ledger.verified()


def test_one_attempt_with_two_contents_is_for_a_person_to_look_at(
    ledger: HospitalLedger, tmp_path: Path
) -> None:
    database, witness = tmp_path / "ledger.db", tmp_path / "witness.jsonl"
    ledger.accept([charge(1)], limits=LIMITS)
    old = {file: file.read_bytes() for file in (database, witness)}
    ledger.accept([charge(2)], limits=LIMITS)
    newer = witness.read_bytes()
    for file, content in old.items():
        file.write_bytes(content)
    ledger.accept([replace(charge(2), mechanism=COUNT)], limits=LIMITS)
    witness.write_bytes(newer)
    with pytest.raises(ChargeConflict):
        ledger.repair()


def test_an_entry_that_this_version_does_not_know_stops_everything(
    ledger: HospitalLedger, store: SiteLedger
) -> None:
    ledger.accept([RESERVATION], limits=LIMITS)
    store.append(lambda _: [("refund", {"training": str(TRAINING)})])
    for ask in (
        ledger.accounts,
        ledger.verified,
        lambda: ledger.accept([charge(1)], limits=LIMITS),
        lambda: ledger.accept([charge(1)], limits=LIMITS),
    ):
        with pytest.raises(UnknownMechanism, match="the kind 'refund'"):
            ask()


def test_a_ledger_with_a_charge_over_its_limits_does_not_verify(
    ledger: HospitalLedger, store: SiteLedger
) -> None:
    ledger.accept([RESERVATION], limits=LIMITS)
    over = replace(charge(1), mechanism=Gaussian(0.5), limits=LIMITS)
    store.append(lambda _: [to_plain(over)])
    with pytest.raises(BudgetExceeded, match="entry 2: this training would cost"):
        ledger.verified()
