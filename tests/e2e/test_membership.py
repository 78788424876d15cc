"""Hospitals that are suspended, come back, change their secret and leave while all is running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session

from db.queries import audit
from deployments.errors import ApiRefused
from fl.names import GATEWAY_PATH
from fl.spec import TrainingRequest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

HOSPITAL: Final = "hospital-3"
LEAVES: Final = "hospital-5"
AT_ONCE_S: Final = 10.0


def fedmed_hospital(stack: Any, hospital_id: str, *command: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deployments.cli", "hospital", *command),
            *("--hospital-id", hospital_id),
        ],
        env=dict(stack.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def credential(stack: Any, hospital_id: str) -> dict[str, str]:
    path = stack.site(hospital_id).hospital_home / "keys" / "credential.json"
    found: dict[str, str] = json.loads(path.read_text())
    return found


def sign_in(stack: Any, credential: dict[str, str]) -> httpx.Response:
    grant = {"grant_type": "client_credentials", **credential}
    url = f"{stack.settings.api_url}/oauth/token"
    return httpx.post(url, data=grant, trust_env=False, timeout=30)


def asks(stack: Any, token: str) -> int:
    """The status of a question with a token."""
    url, headers = f"{stack.settings.api_url}/exchange/roster", {"Authorization": f"Bearer {token}"}
    return httpx.get(url, headers=headers, trust_env=False).status_code


def states(training: dict[str, Any]) -> list[dict[str, str]]:
    return [{h["hospital_id"]: h["state"] for h in r["hospitals"]} for r in training["rounds"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """What came of a suspension.

    Attributes:
        training: the one whose first round was open at that time.
        polled: what a question for work was answered that was held then.
        with_token: the status of the next question with a token from before.
        signing_in: the same of a sign-in.
    """

    training: dict[str, Any]
    polled: list[Any]
    with_token: int
    signing_in: int


@pytest.fixture(scope="module")
def worker(five: Any) -> psutil.Process:
    found: psutil.Process = five.hospital_process(HOSPITAL)
    return found


@pytest.fixture(scope="module")
def suspended(five: Any, worker: psutil.Process, eventually: Callable[..., Any]) -> Suspended:
    """Suspended while its question for work is held, and a round is open that waits for another."""
    (warm,) = worker.children()
    token = sign_in(five, credential(five, HOSPITAL)).json()["access_token"]
    silent = five.hospital_process("hospital-4")
    silent.send_signal(signal.SIGSTOP)
    try:
        training_id = five.start(rounds=1)
        eventually(warm.children, deadline_s=60, every_s=0.01)
        with ThreadPoolExecutor() as threads:
            poll = threads.submit(ask_for_work, five)
            assert wait([poll], timeout=1.0).not_done
            five.operator.change_standing(HOSPITAL, "suspend", reason="its keys were stolen")
            polled = poll.result(timeout=AT_ONCE_S)
        with_token = asks(five, token)
        eventually(lambda: is_lost(five, training_id), deadline_s=AT_ONCE_S)
    finally:
        silent.send_signal(signal.SIGCONT)
    return Suspended(
        polled=polled,
        with_token=with_token,
        signing_in=sign_in(five, credential(five, HOSPITAL)).status_code,
        training=five.ended(training_id),
    )


def ask_for_work(stack: Any) -> list[Any]:
    """Asks as the hospital's worker does; the answer is held back until there is something."""
    path = f"{GATEWAY_PATH}/work_pools/{HOSPITAL}/get_scheduled_flow_runs"
    with stack.signed_in(HOSPITAL) as client:
        found: list[Any] = client.post(path, json={}, timeout=60).raise_for_status().json()
        return found


def is_lost(stack: Any, training_id: str) -> bool:
    first = stack.operator.training(training_id)["rounds"][0]
    return {"hospital_id": HOSPITAL, "state": "lost"}.items() <= next(
        h for h in first["hospitals"] if h["hospital_id"] == HOSPITAL
    ).items()


def test_its_round_goes_on_without_it_at_once(suspended: Suspended) -> None:
    training = suspended.training
    assert (training["state"], training["reason"]) == ("completed", None)
    first = training["rounds"][0]
    (lost,) = (h for h in first["hospitals"] if h["state"] != "revealed")
    assert (lost["hospital_id"], lost["state"], lost["reason_code"]) == (
        HOSPITAL,
        "lost",
        "suspended",
    )
    assert "its keys were stolen" in lost["reason"]
    assert first["seconds"] < training["round_deadline_s"] / 4


def test_the_next_round_does_not_invite_it(suspended: Suspended) -> None:
    assert HOSPITAL not in states(suspended.training)[-1]


def test_its_question_is_answered_and_its_token_and_secret_are_dead(suspended: Suspended) -> None:
    assert suspended.polled == []
    assert suspended.with_token in (401, 403)
    assert suspended.signing_in in (400, 401, 403)


def test_with_too_few_left_a_training_is_refused(five: Any, suspended: Suspended) -> None:
    others = ("hospital-1", "hospital-2")
    for hospital_id in others:
        five.operator.change_standing(hospital_id, "suspend", reason="to have too few")
    try:
        with pytest.raises(ApiRefused, match="2") as refused:
            five.operator.start_training(TrainingRequest(model="breast-cancer", rounds=1))
        assert refused.value.problem_type.endswith("/too-few-hospitals")
    finally:
        for hospital_id in others:
            five.operator.change_standing(hospital_id, "readmit")


def test_taken_back_it_takes_part_again_without_a_restart(
    five: Any, suspended: Suspended, worker: psutil.Process
) -> None:
    five.operator.change_standing(HOSPITAL, "readmit")
    training = five.train(rounds=1)
    assert training["state"] == "completed", training["reason"]
    assert states(training) == [dict.fromkeys(five.folders, "revealed")] * 2
    assert worker.is_running()


def test_a_new_secret_and_a_member_that_leaves_need_no_restart(
    five: Any, suspended: Suspended, worker: psutil.Process
) -> None:
    """Last: who has left does not come back."""
    before = credential(five, HOSPITAL)
    token = sign_in(five, before).json()["access_token"]
    fedmed_hospital(five, HOSPITAL, "rotate")
    assert credential(five, HOSPITAL) != before
    assert sign_in(five, before).status_code == 401
    assert asks(five, token) == 401

    gone = sign_in(five, credential(five, LEAVES)).json()["access_token"]
    fedmed_hospital(five, LEAVES, "leave", "--yes")
    assert asks(five, gone) in (401, 403)

    training = five.train(rounds=1)
    assert training["state"] == "completed", training["reason"]
    remaining = [hospital_id for hospital_id in five.folders if hospital_id != LEAVES]
    assert states(training) == [dict.fromkeys(remaining, "revealed")] * 2
    assert worker.is_running()


def test_the_record_of_who_has_left_is_kept(five: Any) -> None:
    shown = five.api.get(f"/hospitals/{LEAVES}")
    assert shown["state"] == "left"
    assert shown["signing_key"] is not None
    with Session(five.database("fedmed")) as session:
        audit.verify_chain(session)
        actions = [
            event.action for event in audit.list_events(session, subject=f"hospital:{LEAVES}")
        ]
    assert {"hospital.invited", "hospital.joined", "hospital.left"} <= set(actions)
    home = five.site(LEAVES).hospital_home
    assert list(home.rglob("ledger.db"))
    assert (home / "keys" / "signing.key").exists()
