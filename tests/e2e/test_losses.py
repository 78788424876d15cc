"""Five hospitals, a training through which one is lost in every round."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy.orm import Session

from db.queries import audit

pytestmark = pytest.mark.e2e

EVERYBODY: Final = tuple(f"hospital-{number}" for number in range(1, 6))


@pytest.fixture(scope="module")
def training(five: Any, eventually: Callable[..., Any]) -> dict[str, Any]:
    """Hospital-5 is silent in the first round, hospital-4's run is killed in the second."""
    silent = five.hospital_process("hospital-5")
    (warm,) = five.hospital_process("hospital-4").children()
    training_id = five.start(rounds=3)
    silent.send_signal(signal.SIGSTOP)
    try:
        (first,) = eventually(warm.children, deadline_s=60, every_s=0.01)
        eventually(lambda: ended(five, training_id) >= 1, deadline_s=90)
    finally:
        silent.send_signal(signal.SIGCONT)
    eventually(
        lambda: [child.kill() or child for child in warm.children() if child.pid != first.pid],
        deadline_s=60,
        every_s=0.01,
    )
    training: dict[str, Any] = five.ended(training_id)
    return training


def ended(stack: Any, training_id: str) -> int:
    rounds = stack.operator.training(training_id)["rounds"]
    return sum(r["state"] in ("completed", "failed") for r in rounds)


def test_the_training_completes(training: dict[str, Any]) -> None:
    assert (training["state"], training["reason"]) == ("completed", None)
    assert [r["state"] for r in training["rounds"]] == ["completed"] * 4


def test_each_lost_hospital_is_named_with_its_reason(training: dict[str, Any]) -> None:
    out = [
        {h["hospital_id"]: h["reason_code"] for h in r["hospitals"] if h["state"] != "revealed"}
        for r in training["rounds"]
    ]
    assert out[0] == {"hospital-5": "silent"}
    assert {"hospital-4": "crashed"} in out[1:]


def test_a_silent_hospital_costs_seconds_and_not_the_deadline(training: dict[str, Any]) -> None:
    assert training["rounds"][0]["seconds"] < training["round_deadline_s"] / 4


def test_the_record_says_whose_updates_are_in_each_sum(five: Any, training: dict[str, Any]) -> None:
    with Session(five.database("fedmed")) as session:
        audit.verify_chain(session)
        records = {
            event.subject: event.details
            for event in audit.list_events(session, action="round.completed")
        }
    for r in training["rounds"]:
        record = records[f"round:{r['round_id']}"]
        lost = {h["hospital_id"] for h in r["hospitals"] if h["state"] != "revealed"}
        assert len(record["survivors"]) >= 4
        assert set(EVERYBODY) - lost <= set(record["survivors"])
        assert set(record["reasons"]) == lost
