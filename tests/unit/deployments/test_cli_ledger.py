"""`fedmed hospital ledger …`: what a hospital's people see and do, with no coordinator anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db.disk import write_new_file
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from privacy.ledger import Charge, Limits, Reservation
from privacy.mechanisms import Gaussian, Repeated
from tasks.hospital.ledger import HospitalLedger
from tasks.hospital.policy import policy_file
from tasks.hospital.site import SiteSettings, credential_file, open_ledger

POLICY = """\
expires: 9999-12-31
epsilon_per_training: 10
epsilon_total: 20
delta: 1e-5
"""
LIMITS = Limits(epsilon_per_training=10.0, epsilon_total=20.0, delta=1e-5)
TRAINING = UUID(int=1)
ROWS: Any = {"training": TRAINING, "cohort": "all", "fingerprint": "f", "split": "s"}
STEP, COUNT = Gaussian(5.0), Gaussian(8.0)
NORTH = ("--hospital-id", "north")


@pytest.fixture
def site(settings: StackSettings, tmp_path: Path) -> SiteSettings:
    place = settings.site("north", tmp_path, peers=None)
    credential_file(place).write_text('{"client_id": "north", "client_secret": "s3cret"}')
    write_new_file(policy_file(place), POLICY.encode())
    return place


@pytest.fixture
def ledger(site: SiteSettings) -> HospitalLedger:
    """The ledger of north after two rounds of four."""
    ledger = open_ledger(site)
    plan: Any = {"training": Repeated(STEP, 4), "held-out": Repeated(COUNT, 5)}
    ledger.accept([Reservation(**ROWS, rounds=4, mechanisms=plan)], limits=LIMITS)
    for number in (1, 2):
        attempt: Any = ROWS | {"number": number, "round_id": UUID(int=number)}
        both = [
            Charge(**attempt, part="training", mechanism=STEP),
            Charge(**attempt, part="held-out", mechanism=COUNT),
        ]
        ledger.accept(both, limits=LIMITS)
    return ledger


def done(fedmed: Any, *arguments: str, code: int = 0) -> str:
    result = fedmed("hospital", "ledger", *arguments)
    assert result.exit_code == code, result.exception
    text: str = result.stdout
    return text


def mistake(fedmed: Any, *arguments: str) -> str:
    """Makes a mistake; `main` prints its text in one line and ends with code 2."""
    result = fedmed("hospital", "ledger", *arguments)
    assert isinstance(result.exception, OperatorError), result.exception
    (line,) = str(result.exception).splitlines()
    return line


def test_an_empty_ledger_says_so(fedmed: Any, site: SiteSettings) -> None:
    assert "the ledger is empty" in done(fedmed, "show", *NORTH)
    assert done(fedmed, "verify", *NORTH) == "valid: 0 entries\n"
    assert done(fedmed, "export", *NORTH) == ""


def test_it_shows_every_training_and_the_total_beside_the_limits(
    fedmed: Any, ledger: HospitalLedger
) -> None:
    shown = json.loads(done(fedmed, "show", *NORTH, "--json"))
    assert shown["limits"] == {"epsilon_per_training": 10, "epsilon_total": 20, "delta": 1e-5}
    (cohort,) = shown["cohorts"]
    (row,) = cohort["trainings"]
    assert (row["training"], row["rounds"], row["is_open"]) == (str(TRAINING), 2, True)
    assert 0 < row["spent"] < row["spent"] + row["reserved"] < 2
    assert cohort["left"] == pytest.approx(20 - cohort["spent"] - cohort["reserved"])

    lines = done(fedmed, "show", *NORTH).splitlines()
    assert lines[0].strip() == "patient cohort all"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        [str(TRAINING), "2", f"{row['spent']:.2f}", f"{row['reserved']:.2f}", "open"],
        ["all trainings", "", f"{cohort['spent']:.2f}", f"{cohort['reserved']:.2f}", ""],
    ]
    assert lines[-1] == (
        f"epsilon at delta 1e-05: {cohort['left']:.2f} of 20 left, at most 10 for one training"
    )


def test_the_limits_are_the_hospital_s_own(
    fedmed: Any, ledger: HospitalLedger, site: SiteSettings
) -> None:
    tighter = POLICY.replace("10", "1").replace("epsilon_total: 20", "epsilon_total: 1.5")
    policy_file(site).write_text(tighter)
    shown = json.loads(done(fedmed, "show", *NORTH, "--json"))
    assert shown["limits"]["epsilon_total"] == 1.5
    assert shown["cohorts"][0]["left"] == 0


def test_it_tells_what_a_person_should_know(fedmed: Any, ledger: HospitalLedger) -> None:
    women = ROWS | {"cohort": "women", "split": "new"}
    charge = Charge(**women, number=1, round_id=UUID(int=9), part="training", mechanism=STEP)
    again = Charge(
        **(ROWS | {"split": "new"}), number=3, round_id=UUID(int=3), part="training", mechanism=STEP
    )
    ledger.accept([charge, again], limits=LIMITS)
    shown = done(fedmed, "show", *NORTH)
    assert "cohort 'women' has had the same table: its patients lose both" in shown
    assert "cohort 'all' has had the same table: its patients lose both" in shown
    assert "2 split keys: rows may have changed sides" in shown


def test_an_export_is_checked_anywhere(fedmed: Any, ledger: HospitalLedger, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text(done(fedmed, "export", *NORTH))
    head = ledger.entries()[-1].hash
    expected = f"valid: 5 entries, head {head}\n"
    assert done(fedmed, "verify", *NORTH) == done(fedmed, "verify", "--file", str(file)) == expected
    assert json.loads(done(fedmed, "verify", "--file", str(file), "--json")) == {
        "valid": True,
        "entries": 5,
        "head": head,
    }

    file.write_text(file.read_text().replace('"noise_multiplier":8.0', '"noise_multiplier":9.0'))
    said = done(fedmed, "verify", "--file", str(file), code=1)
    assert said == f"not valid: {file}: entry 1 was changed, or does not follow the one before\n"
    said = done(fedmed, "verify", "--file", str(file), "--json", code=1)
    assert json.loads(said)["valid"] is False
    file.write_text("no ledger\n")
    assert "entry 1 (a line that is no entry)" in done(
        fedmed, "verify", "--file", str(file), code=1
    )


def test_a_person_releases_and_charges(fedmed: Any, ledger: HospitalLedger) -> None:
    said = done(fedmed, "release", *NORTH, str(TRAINING))
    assert said == f"released what training {TRAINING} has not used\n"
    said = done(fedmed, "charge", *NORTH, str(TRAINING), "--rounds", "3", "--json")
    assert json.loads(said) == {"charged": str(TRAINING), "rounds": 3}
    (row,) = json.loads(done(fedmed, "show", *NORTH, "--json"))["cohorts"][0]["trainings"]
    assert (row["rounds"], row["is_open"], row["reserved"]) == (5, False, 0)
    line = mistake(fedmed, "release", *NORTH, str(TRAINING))
    assert line == (
        f"training {TRAINING} has no open reservation here; "
        "see `fedmed hospital ledger show --hospital-id north`"
    )


def test_a_restored_ledger_is_refused_until_a_person_repairs_it(
    fedmed: Any, ledger: HospitalLedger, site: SiteSettings
) -> None:
    assert done(fedmed, "repair", *NORTH) == "nothing to repair: ledger and witness agree\n"
    (site.hospital_home / "records" / "ledger.db").unlink()
    for arguments in (("show",), ("export",), ("release", str(TRAINING))):
        line = mistake(fedmed, *arguments, *NORTH)
        assert "end at entry 0 and 5: the database is an older one" in line
        assert line.endswith("see `fedmed hospital ledger repair --hospital-id north`")
    assert done(fedmed, "verify", *NORTH, code=1).startswith("not valid: ")
    said = done(fedmed, "repair", *NORTH)
    assert said.startswith("repaired: the database held 0 entries and the witness 5; 5 restored,")
    assert done(fedmed, "verify", *NORTH).startswith("valid: 6 entries")
    said = json.loads(done(fedmed, "repair", *NORTH, "--json"))
    assert said == {"repaired": False}


def test_a_broken_ledger_is_one_line(
    fedmed: Any, ledger: HospitalLedger, site: SiteSettings
) -> None:
    (site.hospital_home / "records" / "ledger.db").write_bytes(b"no database" * 100)
    line = mistake(fedmed, "show", *NORTH)
    assert "SQLite: file is not a database" in line
    assert line.endswith("see `fedmed hospital ledger verify --hospital-id north`")


@pytest.mark.parametrize("command", ["show", "verify", "export", "repair"])
def test_a_mistyped_id_makes_no_files(
    fedmed: Any, site: SiteSettings, settings: StackSettings, command: str
) -> None:
    line = mistake(fedmed, command, "--hospital-id", "nroth")
    assert "no credential at" in line
    assert list(settings.home.rglob("ledger*")) == []


def test_verify_wants_one_ledger(fedmed: Any, site: SiteSettings, tmp_path: Path) -> None:
    assert mistake(fedmed, "verify") == "give --hospital-id, or --file for an export"
    file = tmp_path / "x"
    file.touch()
    assert "give --hospital-id, or" in mistake(fedmed, "verify", *NORTH, "--file", str(file))
