"""A table that breaks the contract: the round says where and which rule, and nothing of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from sqlalchemy import inspect, text

from deployments.demo_data import LABEL

pytestmark = pytest.mark.e2e

HOSPITAL: Final = "hospital-2"


@dataclass(frozen=True, slots=True)
class Case:
    """A way to break the table.

    Attributes:
        name: what is wrong.
        breaks: makes the broken file out of the good one.
        rules: what the refusal has to say, after ``hospital-2 refused: data-contract:``.
        markers: texts that stand in the broken file and must not be found elsewhere.
    """

    name: str
    breaks: Callable[[pd.DataFrame], str]
    rules: str
    markers: tuple[str, ...] = field(default=())


def _with(cells: Mapping[str, str]) -> Callable[[pd.DataFrame], str]:
    """Overwrites cells of the fifth row."""

    def broken(table: pd.DataFrame) -> str:
        for column, value in cells.items():
            table.loc[4, column] = value
        return table.to_csv(index=False)

    return broken


CASES: Final = (
    Case(
        "a missing column",
        lambda table: _with({"mean area": "1213.141516"})(table.drop(columns="worst area")),
        "worst area: missing-column",
        ("1213.141516",),
    ),
    Case(
        "text in a number, a number out of range and an unknown label",
        _with(
            {
                "mean radius": "SECRETROW81723",
                "mean texture": "7381.925014",
                LABEL: "481516",
            }
        ),
        "malignant: unknown-label; mean radius: not-a-number; mean texture: out-of-range",
        ("SECRETROW81723", "7381.925014", "481516"),
    ),
    Case("an empty file", lambda table: "", "empty-table"),
)
MARKERS: Final = tuple(marker for case in CASES for marker in case.markers)


@pytest.fixture(scope="module")
def refused(stack: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """A training of one round on each broken table, ended; the good table is back."""
    path = stack.table(HOSPITAL)
    good = path.read_text()
    ended = {}
    try:
        for case in CASES:
            path.write_text(case.breaks(pd.read_csv(path, dtype=str)))
            assert all(marker in path.read_text() for marker in case.markers)
            ended[case.name] = stack.train(rounds=1)
            path.write_text(good)
    finally:
        path.write_text(good)
    return ended


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_table_ends_the_training_with_its_rule(
    refused: dict[str, dict[str, Any]], case: Case
) -> None:
    training = refused[case.name]
    reason = f"{HOSPITAL} refused: data-contract: {case.rules}"
    assert (training["state"], training["reason"]) == ("failed", reason)
    assert {(r["state"], r["reason"]) for r in training["rounds"]} == {("failed", reason)}
    for failed in training["rounds"]:
        (refusal,) = (h for h in failed["hospitals"] if h["state"] == "refused")
        assert refusal["hospital_id"] == HOSPITAL
        assert (refusal["reason_code"], refusal["reason"]) == ("data-contract", case.rules)
    assert training["epsilon_spent"] == 0  # nothing was released


def test_a_refusal_is_a_failed_run_at_the_hospital(
    stack: Any, refused: dict[str, dict[str, Any]]
) -> None:
    for case in CASES:
        runs = stack.runs_of(refused[case.name]["training_id"])
        states = [
            stack.run_ended(r["id"])["state"] for r in runs if r["work_pool_name"] == HOSPITAL
        ]
        assert {(state["type"], state["message"]) for state in states} == {
            ("FAILED", f"Refusal: data-contract: {case.rules}")
        }


def test_a_good_table_trains_again(stack: Any, refused: dict[str, dict[str, Any]]) -> None:
    assert stack.train(rounds=1)["state"] == "completed"


def test_nothing_of_a_row_leaves_the_hospital(
    stack: Any, refused: dict[str, dict[str, Any]]
) -> None:
    outside = {**_answers(stack), **_tables(stack), **_files(stack)}
    # What was searched is what holds the refusals, everywhere where they belong.
    said = {place for place, content in outside.items() if b"not-a-number" in content}
    assert said >= {
        "GET /training",
        "GET /metrics/breast-cancer",
        "GET /audit/events",
        "fedmed.audit_events",
        "fedmed.participations",
        "fedmed.rounds",
        "fedmed.trainings",
        "prefect.artifact",
        "prefect.flow_run_state",
        "prefect.log",
        "logs/coordinator",
        "artifacts/",
    }
    assert b"training_id" in outside["mlflow.tags"]
    for marker in MARKERS:
        # PostgreSQL shows bytes in hex.
        needles = (marker.encode(), marker.encode().hex().encode())
        found = [p for p, content in outside.items() if any(n in content for n in needles)]
        assert not found, f"{marker} is in {found}"


def _answers(stack: Any) -> dict[str, bytes]:
    """What the API says of everything."""
    paths = ("/training", "/metrics/breast-cancer", "/audit/events?limit=1000", "/hospitals")
    return {
        f"GET {path.partition('?')[0]}": stack.api.client.get(path).raise_for_status().content
        for path in paths
    }


def _tables(stack: Any) -> dict[str, bytes]:
    """All rows of the three databases: the coordinator's, Prefect's with its logs, MLflow's."""
    content = {}
    for database in ("fedmed", "prefect", "mlflow"):
        with stack.database(database).connect() as connection:
            for table in inspect(connection).get_table_names():
                rows = connection.scalars(text(f'SELECT t::text FROM "{table}" t'))  # noqa: S608
                content[f"{database}.{table}"] = "\n".join(rows).encode()
    return content


def _files(stack: Any) -> dict[str, bytes]:
    """Every file outside the hospitals, by the server it belongs to."""
    home = stack.settings.home
    logs = {path.stem: path.read_bytes() for path in (home / "logs").iterdir()}
    del logs["hospitals"]  # the hospitals' own
    assert logs.keys() >= {"prefect", "mlflow", "api", "coordinator", "supervisor"}
    folders = ("artifacts", "mlflow", "prefect", "secrets")
    return {
        **{f"logs/{name}": content for name, content in logs.items()},
        **{f"{name}/": _whole(home / name) for name in folders},
    }


def _whole(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
