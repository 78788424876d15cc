"""The child of a hospital's worker: the local flow, the site's environment, an outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed, Failed
from pydantic import ValidationError

from deployments import child
from deployments.child import RunOutcome, run_child
from deployments.confine import ChildLimits
from deployments.stack.services import ONE_THREAD
from flows import hospital_round as flow_module
from tasks.hospital.site import SiteSettings, auth_of
from tasks.hospital.tokens import IssuedToken

TOKEN = IssuedToken(value="token-of-north", renew_at=4e9)

WARM_AND_CHILD = """
import json, sys
import anyio
from deployments.child import run_child
from deployments.warm import WarmProcess

warm = WarmProcess.fork(run_child)

async def work():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(warm.listen)
        ended = await warm.wait(await warm.start(json.loads(sys.argv[1])))
        print(json.dumps([ended.exit_code, ended.answer.decode()]))
        tasks.cancel_scope.cancel()

anyio.run(work)
"""
PLANTED_FLOW = """
import os, resource
from types import SimpleNamespace
from prefect.states import Completed

def fn(invitation):
    if invitation.number == 2:
        raise RuntimeError("age 71 of row 3")
    limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)]
    return Completed(message=f"{limits} {'PGPASSWORD' in os.environ} {invitation.number}")

flow = SimpleNamespace(fn=fn)
"""


@pytest.fixture
def request_of(tmp_path: Path, parameters: dict[str, Any]) -> dict[str, str]:
    """What a worker asks of a child."""
    settings = SiteSettings(
        hospital_id="north",
        hospital_home=tmp_path / "north",
        data_path=tmp_path / "table.csv",
        api_url="http://127.0.0.1:1",
    )
    return {
        **settings.environment(),
        "target": "flows.hospital_round:hospital_round",
        "invitation": json.dumps(parameters["invitation"]),
        "token": TOKEN.model_dump_json(),
        "memory_mb": "2048",
        "cpu_s": "60",
    }


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ChildLimits]]:
    """The limits that the child would set on itself, which here is the test's own process."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("FEDMED_")]:
        del os.environ[name]
    asked: list[ChildLimits] = []
    monkeypatch.setattr(child, "limit_child", asked.append)
    auth_of.cache_clear()
    yield asked
    auth_of.cache_clear()
    os.environ.clear()
    os.environ.update(before)


def test_the_child_runs_the_local_flow_signed_in_with_the_site_s_environment_alone(
    request_of: dict[str, str],
    limits: list[ChildLimits],
    parameters: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def fn(invitation: Any) -> Any:
        seen.append((invitation, SiteSettings(), dict(os.environ)))
        return Completed(message="train 0.250 s")

    monkeypatch.setattr(flow_module, "hospital_round", SimpleNamespace(fn=fn))
    os.environ["PGPASSWORD"] = "s3cret"
    os.environ["FEDMED_DATABASE_URL"] = "postgresql://u:p@db/fedmed"
    answer = run_child(request_of)
    ((invitation, settings, environment),) = seen
    assert json.loads(answer) == {"state": "completed", "message": "train 0.250 s"}
    assert invitation.model_dump(mode="json") == parameters["invitation"]
    assert (settings.hospital_id, settings.api_url) == ("north", "http://127.0.0.1:1")
    assert auth_of(settings).token == TOKEN
    assert limits == [ChildLimits(memory_mb=2048, cpu_s=60)]
    assert not {"PGPASSWORD", "FEDMED_DATABASE_URL"} & environment.keys()
    # What is the worker's to say is no variable that a helper of the child would inherit.
    assert not {"target", "invitation", "token", "memory_mb", "cpu_s"} & environment.keys()
    assert not any(TOKEN.value in value for value in environment.values())


def test_without_a_token_the_child_signs_in_itself(
    request_of: dict[str, str], limits: list[ChildLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = SimpleNamespace(fn=lambda _: Failed(message="Refusal: policy: not allowed"))
    monkeypatch.setattr(flow_module, "hospital_round", flow)
    answer = run_child({**request_of, "token": ""})
    assert json.loads(answer) == {"state": "failed", "message": "Refusal: policy: not allowed"}
    assert auth_of(SiteSettings()).token is None


def test_a_child_asked_for_something_else_than_an_invitation_runs_nothing(
    request_of: dict[str, str], limits: list[ChildLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(flow_module, "hospital_round", SimpleNamespace(fn=ran.append))
    with pytest.raises(ValidationError):
        run_child({**request_of, "invitation": "{}"})
    assert ran == []


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (Completed(message="done"), RunOutcome(state="completed", message="done")),
        (Completed(message=None), RunOutcome(state="completed", message="")),
        (Failed(message="x" * 5000), RunOutcome(state="failed", message="x" * 2000)),
    ],
)
def test_an_outcome_is_a_state_s_kind_and_its_message_cut(state: Any, outcome: RunOutcome) -> None:
    assert RunOutcome.of(state) == outcome
    reported = RunOutcome.model_validate_json(outcome.model_dump_json()).as_state()
    assert (reported.type, reported.message) == (state.type, outcome.message)
    assert reported.data is None


@pytest.mark.parametrize("number", [1, 2])
def test_in_a_process_of_its_own_it_is_held_to_its_limits_and_a_traceback_stays_here(
    request_of: dict[str, str], tmp_path: Path, parameters: dict[str, Any], number: int
) -> None:
    (tmp_path / "planted.py").write_text(PLANTED_FLOW)
    invitation = json.dumps(parameters["invitation"] | {"number": number})
    request = {**request_of, "target": "planted:flow", "invitation": invitation}
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", WARM_AND_CHILD, json.dumps(request)],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path, "PGPASSWORD": "s3cret"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, answer = json.loads(done.stdout)
    if number == 2:
        assert (code, answer) == (1, "")
        assert "age 71 of row 3" in done.stderr
        return
    assert code == 0
    most = 2048 << 20
    assert json.loads(answer) == {
        "state": "completed",
        "message": f"[({most}, {most}), (60, 65)] False 1",
    }
