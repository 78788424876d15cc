"""Somebody who controls the Prefect server, and hospitals that die or fall silent."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = pytest.mark.e2e

POOL: Final = "hospital-1"
DEADLINE_S: Final = 20.0
ENROLMENT_S: Final = DEADLINE_S / 4
SCRIPT: Final = """
from pathlib import Path
from prefect import flow

@flow
def evil(invitation=None):
    Path({mark!r}).touch()
"""
# What a pool of Prefect's own process worker lets a deployment set.
ANYTHING_GOES: Final = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}"},
    "variables": {
        "type": "object",
        "properties": {"command": {"type": "string"}, "env": {"type": "object"}},
    },
}


@dataclass(frozen=True, slots=True)
class Attack:
    """A deployment that leaves a file in a folder for each part of it that is obeyed."""

    folder: Path

    @property
    def marks(self) -> set[str]:
        return {path.name for path in self.folder.glob("by-*")}

    def deployment(self) -> dict[str, Any]:
        """A script and steps before it."""
        self.folder.mkdir(exist_ok=True)
        script = SCRIPT.format(mark=str(self.folder / "by-entrypoint"))
        (self.folder / "evil.py").write_text(script)
        shell = {"script": f"touch {self.folder / 'by-pull-step'}"}
        here = {"directory": str(self.folder)}
        return {
            "path": str(self.folder),
            "entrypoint": "evil.py:evil",
            "pull_steps": [
                {"prefect.deployments.steps.run_shell_script": shell},
                {"prefect.deployments.steps.set_working_directory": here},
            ],
        }

    def with_command(self) -> dict[str, Any]:
        """The same with a command and an environment."""
        variables = {
            "command": f"touch {self.folder / 'by-command'}",
            "env": {"FEDMED_DATA_PATH": "/nowhere", "FEDMED_API_URL": "http://127.0.0.1:9"},
        }
        return {**self.deployment(), "job_variables": variables}


@dataclass(slots=True, kw_only=True)
class Attacked:
    """What came of the attacks.

    Attributes:
        training: one of one round, during which all this was scheduled.
        states: the states in which the attacks' runs ended, by their names.
        at_the_hospital: the attack on the hospital's pool.
        elsewhere: the same on a pool of Prefect's own worker.
    """

    at_the_hospital: Attack
    elsewhere: Attack
    training: dict[str, Any] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def lax_pool(stack: Any) -> Iterator[None]:
    """The hospital's pool accepts any job variable, as the server's owner may decide."""
    path = f"/work_pools/{POOL}"
    ours = stack.prefect.get(path)["base_job_template"]
    stack.prefect.call("PATCH", path, json={"base_job_template": ANYTHING_GOES})
    yield
    stack.prefect.call("PATCH", path, json={"base_job_template": ours})


@pytest.fixture(scope="module")
def attacked(
    stack: Any, training: dict[str, Any], lax_pool: None, tmp_path_factory: pytest.TempPathFactory
) -> Attacked:
    folder = tmp_path_factory.mktemp("attack")
    attacked = Attacked(
        at_the_hospital=Attack(folder / "hospital"), elsewhere=Attack(folder / "elsewhere")
    )
    plain = attacked.at_the_hospital.deployment()
    with_command = attacked.at_the_hospital.with_command()
    taken_over = deploy(stack, "hospital-round", "taken-over", POOL, **with_command)
    earlier = next(r for r in stack.runs_of(training["training_id"]) if r["work_pool_name"] == POOL)
    runs = {
        "elsewhere": schedule(
            stack,
            deploy(stack, "evil", "control", "coordinator", **attacked.elsewhere.deployment()),
        ),
        "another flow": schedule(stack, deploy(stack, "evil", "plain", POOL, **plain)),
        "with a command": schedule(stack, deploy(stack, "evil", "command", POOL, **with_command)),
        "no invitation": schedule(stack, taken_over),
        "an old invitation": schedule(stack, taken_over, parameters=earlier["parameters"]),
    }
    with overridden(stack, f"hospital-round/{POOL}", with_command):
        # The worker sees all of them when it is woken for this training's round.
        attacked.training = stack.train(rounds=1)
    attacked.states = {name: stack.run_ended(run_id)["state"] for name, run_id in runs.items()}
    return attacked


def deploy(stack: Any, flow: str, name: str, pool: str, **deployment: Any) -> str:
    flow_id = stack.prefect.call("POST", "/flows/", json={"name": flow})["id"]
    body = {"name": name, "flow_id": flow_id, "work_pool_name": pool, **deployment}
    return str(stack.prefect.call("POST", "/deployments/", json=body)["id"])


def schedule(stack: Any, deployment_id: str, **run: Any) -> str:
    path = f"/deployments/{deployment_id}/create_flow_run"
    return str(stack.prefect.call("POST", path, json=run)["id"])


@contextmanager
def overridden(stack: Any, name: str, changes: dict[str, Any]) -> Iterator[None]:
    """Changes a deployment for a while."""
    own = stack.prefect.get(f"/deployments/name/{name}")
    path = f"/deployments/{own['id']}"
    stack.prefect.call("PATCH", path, json=changes)
    try:
        changed = stack.prefect.get(path)
        assert {key: changed[key] for key in changes} == changes
        yield
    finally:
        stack.prefect.call("PATCH", path, json={key: own[key] for key in changes})


@pytest.fixture(scope="module")
def stricken(stack: Any, eventually: Callable[..., Any]) -> dict[str, Any]:
    """A training in which hospital-3's run is killed and, from then on, hospital-2 is silent."""
    worker = stack.hospital_process("hospital-2")
    (warm,) = stack.hospital_process("hospital-3").children()
    eventually(lambda: not warm.children(), deadline_s=30)
    training_id = stack.start(rounds=1, round_deadline_s=DEADLINE_S)
    (child,) = eventually(warm.children, deadline_s=60, every_s=0.01)
    # Stopped, not killed: a worker that ended would end the stack.
    worker.send_signal(signal.SIGSTOP)
    try:
        child.kill()
        training: dict[str, Any] = stack.ended(training_id)
    finally:
        worker.send_signal(signal.SIGCONT)
    return training


def test_a_run_that_is_killed_ends_its_round_at_once(stack: Any, stricken: dict[str, Any]) -> None:
    first = stricken["rounds"][0]
    assert first["state"] == "failed"
    assert first["reason"] == "hospital-3 refused: crashed: the run ended with exit code -9"
    (refusal,) = (h for h in first["hospitals"] if h["state"] == "refused")
    assert (refusal["hospital_id"], refusal["reason_code"]) == ("hospital-3", "crashed")
    assert first["seconds"] < DEADLINE_S / 2
    (run,) = (
        r for r in stack.runs_of(stricken["training_id"]) if r["name"] == "hospital-3-round-1"
    )
    assert run["state_type"] == "CRASHED"


def test_a_silent_hospital_is_named_when_its_stage_is_over(stricken: dict[str, Any]) -> None:
    _, second = stricken["rounds"]
    reason = f"hospital-2 sent no enrolment within {ENROLMENT_S:g} s"
    assert (second["state"], second["reason"]) == ("failed", reason)
    assert ENROLMENT_S <= second["seconds"] < ENROLMENT_S + 10
    states = {hospital["hospital_id"]: hospital["state"] for hospital in second["hospitals"]}
    assert states == {"hospital-1": "enrolled", "hospital-2": "lost", "hospital-3": "enrolled"}
    assert (stricken["state"], stricken["reason"]) == ("failed", reason)
    assert stricken["epsilon_spent"] == 0  # nobody released an update


def test_the_attack_works_where_a_worker_obeys(attacked: Attacked) -> None:
    """Otherwise the tests below would show nothing."""
    assert attacked.states["elsewhere"]["type"] == "COMPLETED"
    assert attacked.elsewhere.marks == {"by-entrypoint", "by-pull-step"}


def test_a_hospital_runs_nothing_that_the_server_thought_of(attacked: Attacked) -> None:
    assert {name: state["type"] for name, state in attacked.states.items()} == {
        "elsewhere": "COMPLETED",
        "another flow": "CRASHED",
        "with a command": "CRASHED",
        "no invitation": "CRASHED",
        "an old invitation": "FAILED",
    }
    # The gateway shows a hospital no flow but its own.
    refusal = "there is no such flow of this hospital's"
    assert refusal in attacked.states["another flow"]["message"]
    assert refusal in attacked.states["with a command"]["message"]
    # What passes the gateway, the hospital refuses by itself.
    assert "parameter 'invitation'" in attacked.states["no invitation"]["message"]
    assert "takes nothing more" in attacked.states["an old invitation"]["message"]
    assert attacked.at_the_hospital.marks == set()


def test_a_hospital_takes_part_as_ever_beside_and_in_spite_of_the_attacks(
    stack: Any, attacked: Attacked
) -> None:
    training = attacked.training
    assert (training["state"], training["reason"]) == ("completed", None)
    assert [r["state"] for r in training["rounds"]] == ["completed", "completed"]
    runs = [r for r in stack.runs_of(training["training_id"]) if r["work_pool_name"] == POOL]
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * 2
