"""`fedmed data …`: drafting a contract, showing one, holding data to one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.contract import DataContract
from tasks.hospital.site import keys_directory, make_split_key
from tasks.hospital.site_file import SiteFile, write_site_file

HEADER = "patient_id,age,sex,glucose,grade,ward,note,sick"
ROWS = [
    f"P{i // 2},{30 + i % 50},{'fm'[i % 2]},{90.5 + i % 40},{i % 7},{'AB'[i % 3 == 0]},free {i},"
    f"{i % 2}"
    for i in range(200)
]
# Cells that nobody may see in what is shown or written, unless the table is public.
PRIVATE = ("90.5", "129.5", "free 1", "P7", "79")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.yaml"
    columns = [
        {"name": "age", "minimum": 0, "maximum": 120},
        {"name": "glucose", "minimum": 20, "maximum": 1000, "unit": "mg/dL"},
    ]
    content = {"columns": columns, "label": {"name": "sick"}, "patient": "patient_id"}
    path.write_text(yaml.safe_dump(content))
    return path


def drafted(path: Path) -> DataContract:
    return DataContract.model_validate(yaml.safe_load(path.read_text()))


ANSWERS = "\n".join(
    [
        *("", "", ""),  # label and its classes as proposed
        *("", ""),  # age
        "",  # sex
        *("20 to 900", ""),  # glucose
        *("5", "0 7", "", "yes"),  # grade, after one answer that is none
        "A, B, C",  # ward
    ]
)


def test_a_draft_has_what_a_person_says_and_nothing_of_the_table(
    fedmed: Any, table: Path, tmp_path: Path
) -> None:
    output = tmp_path / "c.yaml"
    done = fedmed("data", "contract", "init", str(table), "--output", str(output), answer=ANSWERS)
    assert done.exit_code == 0, done.output
    found = drafted(output)
    assert [column.name for column in found.columns] == ["age", "sex", "glucose", "grade", "ward"]
    age, sex, glucose, grade, ward = (column.model_dump() for column in found.columns)
    assert (age["minimum"], age["maximum"], age["unit"], age["whole"]) == (0, 120, "a", False)
    assert sex["categories"] == ("f", "m")
    assert (glucose["minimum"], glucose["maximum"], glucose["typical"]) == (20, 900, None)
    assert (grade["maximum"], grade["whole"]) == (7, True)
    assert ward["categories"] == ("A", "B", "C")
    assert (found.label.name, found.patient) == ("sick", "patient_id")
    assert [subgroup.name for subgroup in found.subgroups] == ["age", "sex"]
    assert "'5': write two numbers" in done.output
    for private in PRIVATE:
        assert private not in done.output + output.read_text()


def test_two_tables_whose_values_differ_give_one_draft(
    fedmed: Any, table: Path, tmp_path: Path
) -> None:
    """What is drafted unasked depends on columns and kinds alone."""
    texts = []
    for name, shift in (("one", 0), ("other", 17)):
        moved = tmp_path / f"{name}.csv"
        rows = [
            f"P{i}{name},{shift + i % 40},{'fm'[i % 2]},{shift + 100.25 + i % 9},{i % 2}"
            for i in range(60)
        ]
        moved.write_text("\n".join(["patient_id,age,sex,glucose,sick", *rows]))
        output = tmp_path / f"{name}.yaml"
        done = fedmed("data", "contract", "init", str(moved), "--yes", "--output", str(output))
        assert done.exit_code == 0, done.output
        texts.append(output.read_text())
    assert texts[0] == texts[1]


def test_without_a_person_columns_that_nothing_is_known_of_are_named(
    fedmed: Any, table: Path, tmp_path: Path
) -> None:
    output = tmp_path / "c.yaml"
    done = fedmed("data", "contract", "init", str(table), "--yes", "--output", str(output))
    assert isinstance(done.exception, OperatorError)
    assert "known for: grade, ward; without --yes" in str(done.exception)
    assert not output.exists()


def test_from_public_files_everything_is_proposed(fedmed: Any, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(f"{HEADER}\nQ1,60,f,,3,C,x,1\nQ2,61,m,100,9,C,y,0\n")
    output = tmp_path / "c.yaml"
    files = (str(table), str(other), "--public-data", "--yes", "--output", str(output))
    assert fedmed("data", "contract", "init", *files).exit_code == 0
    _, _, glucose, grade, ward = (column.model_dump() for column in drafted(output).columns)
    assert glucose["missing"] == "indicate"
    assert (grade["minimum"], grade["maximum"], grade["whole"]) == (0, 9, True)
    assert ward["categories"] == ("A", "B", "C")
    for name in (table, other):
        checked = fedmed("data", "check", "--contract", str(output), "--data-path", str(name))
        assert checked.exit_code == 0, checked.output


def test_a_public_table_beyond_the_usual_range_is_a_warning(fedmed: Any, tmp_path: Path) -> None:
    table, output = tmp_path / "t.csv", tmp_path / "c.yaml"
    table.write_text("glucose,sick\n" + "\n".join(f"{4 + i / 10},{i % 2}" for i in range(30)))
    done = fedmed(
        "data", "contract", "init", str(table), "--public-data", "--yes", "--output", str(output)
    )
    assert (
        "warning: glucose: from public data, rounded outwards; the usual range, 10 to 2000 mg/dL, "
        "does not hold them: look at the unit" in done.output
    )
    assert drafted(output).columns[0].model_dump()["unit"] == ""


def test_files_of_another_header_are_named_with_the_difference(
    fedmed: Any, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(HEADER.replace("ward", "clinic") + "\n" + ROWS[0] + "\n")
    done = fedmed("data", "contract", "init", str(table), str(other), "--yes")
    assert str(done.exception).endswith("it lacks ward; it has clinic more")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("a;b\n1;2\n", "separated by semicolons"),
        ("a,a\n1,2\n", "columns there twice: a"),
        ("a,\n1,2\n", "column 2 has no name"),
        ("a,b\n", "has no row below its header"),
        ("a,b\n1,2,Erika\n", "not as many cells as the header"),
        (b"a,b\n\xff,1\n", "no CSV file in UTF-8"),
        ("a,b\n1,2\n2,1\n", "which column is the label? Say --label; with two values: a, b"),
    ],
)
def test_what_cannot_be_drafted_from_is_said_without_a_cell(
    fedmed: Any, tmp_path: Path, content: str | bytes, said: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    done = fedmed("data", "contract", "init", str(table), "--yes")
    assert isinstance(done.exception, OperatorError)
    assert said in str(done.exception)
    assert "Erika" not in str(done.exception)
    assert done.exception.__context__ is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label", "age"), "label 'age': a label has two values"),
        (("--label", "agee"), "label 'agee': the table has patient_id, age"),
        (("--patient", "who"), "patient 'who': the table has"),
    ],
)
def test_a_column_that_cannot_be_meant_is_refused(
    fedmed: Any, table: Path, options: tuple[str, str], said: str
) -> None:
    done = fedmed("data", "contract", "init", str(table), "--yes", *options)
    assert str(done.exception).startswith(said)


def test_a_draft_replaces_a_file_only_when_told_to(
    fedmed: Any, table: Path, contract: Path
) -> None:
    before = contract.read_text()
    init = ("data", "contract", "init", str(table), "--public-data", "--yes")
    done = fedmed(*init, "--output", str(contract))
    assert "--force" in str(done.exception)
    assert contract.read_text() == before
    assert fedmed(*init, "--output", str(contract), "--force").exit_code == 0
    assert contract.read_text() != before


def test_a_contract_is_shown_from_its_own_file_or_a_model_s(fedmed: Any, contract: Path) -> None:
    shown = fedmed("data", "contract", "show", str(contract)).output
    assert "20 to 1000" in shown
    assert "mg/dL" in shown
    model = contract.with_name("model.yaml")
    content = {"name": "m", "architecture": {"kind": "logistic"}}
    content |= {"contract": yaml.safe_load(contract.read_text())}
    model.write_text(yaml.safe_dump(content))
    assert fedmed("data", "contract", "show", str(model)).output == shown
    model.write_text("columns: [")
    assert "is not YAML" in str(fedmed("data", "contract", "show", str(model)).exception)
    model.write_text("label: x")
    done = fedmed("data", "contract", "show", str(model))
    assert isinstance(done.exception, ValidationError)


def test_data_that_fit_end_with_0_and_the_report_is_the_owner_s(
    fedmed: Any, table: Path, contract: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    check = ("data", "check", "--contract", str(contract), "--data-path", str(table))
    done = fedmed(*check, "--json", str(report))
    assert done.exit_code == 0, done.output
    assert "the data fit the contract; these counts stay here" in done.output
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    found = json.loads(report.read_text())
    assert (found["fits"], found["broken"], found["report"]["rows"]) == (True, [], 200)
    assert "--force" in str(fedmed(*check, "--json", str(report)).exception)


def test_data_that_break_rules_end_with_1(fedmed: Any, table: Path, contract: Path) -> None:
    rows = table.read_text().replace("P3,36,f,96.5", "P3,360,f,")
    table.write_text(rows)
    done = fedmed("data", "check", "--contract", str(contract), "--data-path", str(table))
    assert done.exit_code == 1
    assert "fail  age: out-of-range (1)" in done.output
    assert "fail  glucose: missing-value (1)" in done.output
    assert (
        "the coordinator would learn which columns break which rules, and no count" in done.output
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("age,sick\n1,0\n", "fail  glucose: missing-column (1)"),
        (f"{HEADER}\n{ROWS[0]},more\n", "fail  table: not-a-csv (1)"),
        (HEADER + "\n", "fail  table: empty-table (1)"),
    ],
)
def test_what_is_no_table_of_the_contract_ends_with_1(
    fedmed: Any, table: Path, contract: Path, content: str, line: str
) -> None:
    table.write_text(content)
    done = fedmed("data", "check", "--contract", str(contract), "--data-path", str(table))
    assert done.exit_code == 1
    assert line in done.output


def test_one_contract_must_be_named(fedmed: Any, table: Path, contract: Path) -> None:
    for given in ((), ("--contract", str(contract), "--model", str(contract))):
        done = fedmed("data", "check", *given, "--data-path", str(table))
        assert isinstance(done.exception, OperatorError)


def test_the_only_hospital_s_data_and_key_are_taken_and_nothing_is_written_there(
    fedmed: Any, table: Path, contract: Path, settings: StackSettings, tmp_path: Path
) -> None:
    check = ("data", "check", "--contract", str(contract))
    assert "say --data-path" in str(fedmed(*check).exception)
    site = settings.site("north", table)
    site.hospital_home.mkdir(parents=True)
    known = SiteFile(hospital_id="north", api_url="http://127.0.0.1:1", data_path=table)
    write_site_file(site.hospital_home, known)
    report = tmp_path / "report.json"
    assert fedmed(*check, "--json", str(report)).exit_code == 0
    assert json.loads(report.read_text())["report"]["repeats"]["patients_on_both_sides"] is None
    assert [path.name for path in site.hospital_home.iterdir()] == ["site.json"]
    make_split_key(keys_directory(site))
    assert fedmed(*check, "--json", str(report), "--force").exit_code == 0
    assert json.loads(report.read_text())["report"]["repeats"]["patients_on_both_sides"] == 0
    assert "no hospital 'nroth'" in str(fedmed(*check, "--hospital-id", "nroth").exception)
