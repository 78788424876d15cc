"""The child of a hospital's worker: the local flow, the site's environment, nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from deployments import worker as worker_module
from deployments.admission import ALLOWED_FLOWS
from deployments.confine import ChildLimits
from deployments.worker import run_child
from flows.hospital_round import hospital_round

ENVIRONMENT = {"FEDMED_HOSPITAL_ID": "north", "FEDMED_DATA_PATH": "/data/table.csv"}


@pytest.fixture
def limits() -> list[ChildLimits]:
    """What the child was limited to; a test's own process is not."""
    return []


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, limits: list[ChildLimits]) -> Iterator[list[Any]]:
    """What the child runs, with the environment in which it does; nothing reaches a server."""
    calls: list[Any] = []

    def run_flow(flow: Any, *, flow_run: FlowRun, return_type: str) -> None:
        calls.append((flow, flow_run, return_type, dict(os.environ)))

    monkeypatch.setattr("prefect.flow_engine.run_flow", run_flow)
    monkeypatch.setattr(worker_module, "warm_client", lambda: nullcontext())
    monkeypatch.setattr(worker_module, "limit_child", limits.append)
    before = dict(os.environ)
    yield calls
    os.environ.clear()
    os.environ.update(before)


def test_the_child_runs_the_local_flow_in_its_limits_and_without_secrets(
    ran: list[Any], limits: list[ChildLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "evil")
    flow_run = FlowRun(
        id=uuid4(),
        name="north-round-1",
        flow_id=uuid4(),
        parameters={"invitation": {"number": 1}},
    )
    before = set(os.environ)
    run_child(
        {
            **ENVIRONMENT,
            "flow_run": flow_run.model_dump_json(),
            "target": ALLOWED_FLOWS["hospital-round"],
            "memory_mb": "512",
            "cpu_s": "9",
        }
    )
    ((flow, given, return_type, environment),) = ran
    assert flow is hospital_round
    assert given.id == flow_run.id
    assert given.parameters == flow_run.parameters
    assert limits == [ChildLimits(memory_mb=512, cpu_s=9)]
    assert return_type == "state"
    assert set(environment) - before <= {*ENVIRONMENT, "PREFECT__FLOW_RUN_ID"}
    assert environment["PREFECT__FLOW_RUN_ID"] == str(flow_run.id)
    assert {key: environment[key] for key in ENVIRONMENT} == ENVIRONMENT
    assert not any("evil" in value for value in environment.values())
