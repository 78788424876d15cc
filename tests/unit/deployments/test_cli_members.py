"""`fedmed hospital invite`, `list`, `suspend`, `readmit`, `end`: what the operator types."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

from deployments import operator
from deployments.errors import ApiRefused, OperatorError

CODE = "2VG1-FTJH-XKGY-MXZJ-QE0G-6ESB-BSM0"


class FakeOperator:
    """As much of the operator's client as is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None

    def invite(self, name: str, **options: Any) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.calls.append((name, options))
        return {
            "hospital_id": "charite",
            "name": name,
            "expires_at": "2026-05-08T12:00:00+00:00",
            "command": f"fedmed hospital join https://fedmed.example.org {CODE}",
        }

    def hospitals(self) -> list[dict[str, Any]]:
        keys: dict[str, Any] = {"signing_key": "0" * 64, "sealing_key": "0" * 64}
        nobody: dict[str, Any] = {"signing_key": None, "sealing_key": None}
        heard = {"last_heard_at": "2026-05-01T10:00:00+00:00"}
        return [
            {"hospital_id": "north", "name": "North", "state": "active", **keys, **heard},
            {
                **{"hospital_id": "south", "name": "South", "state": "invited"},
                **nobody,
                "last_heard_at": None,
            },
        ]

    def change_standing(self, hospital_id: str, verb: str, **body: str) -> dict[str, Any]:
        self.calls.append((hospital_id, verb, body))
        return {"hospital_id": hospital_id, "state": f"{verb}ed"}


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> FakeOperator:
    fake = FakeOperator()

    @contextmanager
    def connect(_: Any) -> Any:
        yield fake

    monkeypatch.setattr(operator.OperatorClient, "connect", connect)
    return fake


def test_the_whole_line_for_the_hospital_is_shown(fedmed: Any, members: FakeOperator) -> None:
    done = fedmed("hospital", "invite", "Charité", "--valid-days", "3", "--again")
    assert done.exit_code == 0, done.exception
    assert f"  fedmed hospital join https://fedmed.example.org {CODE}" in done.output.splitlines()
    assert "2026-05-08 12:00 UTC" in done.output
    options = {"hospital_id": None, "valid_days": 3, "again": True}
    assert members.calls == [("Charité", options)]


def test_an_id_that_is_taken_says_both_ways_on(fedmed: Any, members: FakeOperator) -> None:
    members.error = ApiRefused("it is there", problem_type="/problems/already-exists")
    error = fedmed("hospital", "invite", "Charité").exception
    assert isinstance(error, OperatorError)
    assert "--again" in str(error)
    assert "--hospital-id" in str(error)
    members.error = ApiRefused("other")
    assert str(fedmed("hospital", "invite", "Charité").exception) == "other"


def test_the_hospitals_are_listed(fedmed: Any, members: FakeOperator) -> None:
    lines = fedmed("hospital", "list").output.splitlines()
    (north,) = (line for line in lines if "north" in line)
    (south,) = (line for line in lines if "south" in line)
    assert "active" in north
    assert "f5a5-fd42-d16a-2030-2798-ef6e-d309-979b" in north
    assert "2026-05-01 10:00 UTC" in north
    assert "has not joined" in south
    assert "never" in south


def test_what_the_operator_decides_is_told_with_its_reason(
    fedmed: Any, members: FakeOperator
) -> None:
    fedmed("hospital", "suspend", "north", "--reason", "stolen keys")
    fedmed("hospital", "readmit", "north")
    assert isinstance(fedmed("hospital", "end", "north", answer="n\n").exception, OperatorError)
    done = fedmed("hospital", "end", "north", "--yes")
    assert "north is ended" in done.output
    assert members.calls == [
        ("north", "suspend", {"reason": "stolen keys"}),
        ("north", "readmit", {}),
        ("north", "end", {"reason": "the operator gave no reason"}),
    ]
