"""A hospital's own say in a running consortium: shared noise, budget, approval, stop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tasks.hospital.policy import policy_file

pytestmark = pytest.mark.e2e

NORTH: Final = "hospital-1"
BUDGET: Final = "epsilon_per_training: 2\nepsilon_total: 2"


def fedmed_hospital(stack: Any, *command: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "hospital", *command, "--hospital-id", NORTH],
        env={**stack.environment, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def ledger(stack: Any, training_id: str) -> list[dict[str, Any]]:
    """What the ledger of a hospital holds of a training, in order."""
    lines = map(json.loads, fedmed_hospital(stack, "ledger", "export").splitlines())
    return [entry for entry in lines if entry["details"].get("training") == training_id]


@pytest.fixture
def policy(stack: Any) -> Iterator[Callable[[str, str], None]]:
    """Changes a line of a hospital's policy; the policy is as it was afterwards."""
    path = policy_file(stack.settings.site(NORTH, stack.folders[NORTH]))
    before = path.read_text()

    def change(line: str, instead: str) -> None:
        assert line in before
        path.write_text(before.replace(line, instead))

    yield change
    path.write_text(before)


def test_a_training_shares_its_noise_under_the_sum_and_is_charged_for_it(stack: Any) -> None:
    training = stack.train(rounds=2, privacy={"epsilon": 4.0, "noise_shares": 2})
    assert training["state"] == "completed", training["reason"]
    entries = ledger(stack, training["training_id"])
    charged = [
        (e["details"]["number"], e["details"]["part"]) for e in entries if e["kind"] == "charge"
    ]
    assert sorted(charged) == [
        *((1, "held-out"), (1, "training"), (2, "held-out"), (2, "training"), (3, "held-out"))
    ]
    assert [e["kind"] for e in entries if e["kind"] != "charge"] == ["reservation", "release"]
    assert "DiscreteGaussian" in json.dumps(entries)
    assert fedmed_hospital(stack, "ledger", "verify").startswith("valid: ")


def test_a_hospital_without_budget_refuses_with_the_figure(
    stack: Any, policy: Callable[[str, str], None]
) -> None:
    # What it has spent on earlier trainings is more than all of this.
    policy("epsilon_per_training: 1000\nepsilon_total: 1000", BUDGET)
    training = stack.train(rounds=1, privacy={"epsilon": 1.0})
    assert training["state"] == "failed"
    assert (
        f"{NORTH} refused: privacy-budget: cohort 'all' has epsilon 0.00 of 2 left"
        in training["reason"]
    )
    assert ledger(stack, training["training_id"]) == []


def test_a_training_waits_until_a_person_approves_it(
    stack: Any, policy: Callable[[str, str], None], eventually: Callable[..., Any]
) -> None:
    policy("approval: automatic", "approval: ask")
    training_id = stack.start(rounds=1)
    eventually(lambda: training_id in fedmed_hospital(stack, "approvals"), deadline_s=60)
    fedmed_hospital(stack, "approve", training_id, "--yes")
    training = stack.ended(training_id)
    assert training["state"] == "completed", training["reason"]
    codes = {h["reason_code"] for r in training["rounds"] for h in r["hospitals"]}
    assert "awaiting-approval" in codes


def test_a_stopped_hospital_answers_nothing(stack: Any) -> None:
    fedmed_hospital(stack, "stop")
    try:
        training = stack.train(rounds=1)
    finally:
        fedmed_hospital(stack, "resume")
    assert training["state"] == "failed"
    assert f"{NORTH} refused: stopped" in training["reason"]
    assert ledger(stack, training["training_id"]) == []
