"""A hospital that means harm, with its own genuine token, at the whole stack's gateway.

Everything is tried while a training runs: it has to complete, and Prefect has to hold what it held
before. Beside it, the same done with Prefect's own secret shows that it would work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import inspect, text

pytestmark = pytest.mark.e2e

OWN: Final = "hospital-1"
OTHER: Final = "hospital-2"
# What a training changes in Prefect; its runs are looked at one by one.
MOVING: Final = {
    *("flow_run", "flow_run_state", "flow_run_input", "task_run", "task_run_state"),
    *("log", "artifact", "artifact_collection", "events", "event_resources"),
}
# Each with a method, a path and a body; the names in braces are those of ``Intruder.ids``.
ATTACKS: Final[dict[str, tuple[str, str, Any]]] = {
    attack["name"]: (attack["method"], attack["path"], attack["body"])
    for attack in json.loads(Path(__file__).with_name("gateway_attacks.json").read_text())
}
OVERSIZED: Final = {
    "a state": ("POST", "/flow_runs/{run}/set_state", {"state": {"type": "x" * 70_000}}),
    "a heartbeat": ("POST", "/work_pools/{pool}/workers/heartbeat", {"name": "x" * 70_000}),
    "lines of a log": (
        *("POST", "/logs/"),
        [{"flow_run_id": "{run}", "name": "x", "level": 20, "message": "m" * 2**21}],
    ),
}


def held(stack: Any) -> dict[str, int]:
    """How many rows Prefect holds in each table that a training leaves alone."""
    with stack.database("prefect").connect() as connection:
        return {
            table: connection.scalar(text(f'SELECT count(*) FROM "{table}"'))  # noqa: S608
            for table in inspect(connection).get_table_names()
            if table not in MOVING
        }


def shown(stack: Any, intruder: Any) -> list[dict[str, Any]]:
    """What of the attacked objects must stay as it is."""
    paths = [f"/deployments/{intruder.ids[name]}" for name in ("own", "other", "training", "evil")]
    paths += [f"/flow_runs/{intruder.ids[name]}" for name in ("run", "foreign")]
    paths += [f"/work_pools/{pool}" for pool in (OWN, OTHER, "coordinator")]
    moving = {"updated", "status", "last_polled", "estimated_start_time_delta", "work_queue"}
    moving |= {"estimated_run_time", "total_run_time"}
    return [
        {name: value for name, value in stack.prefect.get(path).items() if name not in moving}
        for path in paths
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """What came of it: the training beside it, and what Prefect held before and after."""

    answers: dict[str, httpx.Response]
    training: dict[str, Any]
    before: tuple[Any, Any]
    after: tuple[Any, Any]
    new_runs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def attacked(stack: Any, intruder: Any) -> Attacked:
    before = held(stack), shown(stack, intruder)
    known = {run["id"] for run in stack.prefect.rows("flow_runs")}
    training_id = stack.start(rounds=1)
    answers = {}
    for name, attack in {**ATTACKS, **OVERSIZED}.items():
        answers[name] = intruder.send(*attack)
    training = stack.ended(training_id)
    new = [run for run in stack.prefect.rows("flow_runs") if run["id"] not in known]
    return Attacked(
        answers=answers,
        training=training,
        before=before,
        after=(held(stack), shown(stack, intruder)),
        new_runs=new,
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_denied(attacked: Attacked, attack: str) -> None:
    answer = attacked.answers[attack]
    assert answer.status_code == 403, answer.text
    assert answer.json()["type"] == "/problems/gateway-refused"


@pytest.mark.parametrize("attack", OVERSIZED)
def test_it_is_too_large(attacked: Attacked, attack: str) -> None:
    assert attacked.answers[attack].status_code == 413, attacked.answers[attack].text


def test_nothing_of_it_is_left_in_prefect(stack: Any, intruder: Any, attacked: Attacked) -> None:
    assert attacked.after == attacked.before
    assert not intruder.mark.exists()
    of_training = {run["id"] for run in stack.runs_of(attacked.training["training_id"])}
    top = attacked.training["flow_run_id"]
    parents = {run["id"] for run in attacked.new_runs if run["parent_task_run_id"]} | {top}
    assert {run["id"] for run in attacked.new_runs} <= of_training | parents


def test_the_training_beside_it_completes(attacked: Attacked) -> None:
    assert (attacked.training["state"], attacked.training["reason"]) == ("completed", None)


def test_prefect_itself_takes_no_token_of_a_hospital(stack: Any, intruder: Any) -> None:
    bearer = {"Authorization": f"Bearer {intruder.token}"}
    for headers in ({}, bearer):
        with httpx.Client(
            base_url=stack.settings.prefect_api_url, headers=headers, trust_env=False
        ) as client:
            for method, path in (
                ("POST", "/flow_runs/filter"),
                ("GET", f"/flow_runs/{intruder.ids['run']}"),
                ("POST", f"/deployments/{intruder.ids['evil']}/create_flow_run"),
                ("GET", "/ui-settings"),
            ):
                assert client.request(method, path, json={}).status_code == 401, path
    assert not intruder.mark.exists()


def test_with_prefect_s_own_secret_the_command_runs(stack: Any, intruder: Any) -> None:
    """The control: what the hospital was denied works for who holds the secret."""
    run = stack.prefect.call(
        "POST", f"/deployments/{intruder.ids['evil']}/create_flow_run", json={}
    )
    assert stack.run_ended(run["id"])["state_type"] == "COMPLETED"
    assert intruder.mark.exists()
