from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from deployments import (
    cli,
    cli_code,
    cli_compare,
    cli_data,
    cli_hospital,
    cli_join,
    cli_ledger,
    cli_members,
    cli_policy,
    cli_privacy,
    cli_report,
    cli_user,
    operator,
)
from deployments.confine import CLEAN
from deployments.settings import StackSettings
from deployments.stack.services import LEAN_CLIENT, NO_TELEMETRY, ONE_THREAD
from fl.invitation import RoundInvitation
from fl.spec import ModelSpec, TrainingRequest
from tasks.hospital.site import SiteSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def parameters() -> dict[str, Any]:
    """What a run of the hospital's flow is given: an invitation, as JSON."""
    roster = [
        {"hospital_id": name, "index": i, "signing_key": f"{i}" * 64, "sealing_key": "0" * 64}
        for i, name in enumerate(("east", "north", "west"), start=1)
    ]
    model = ModelSpec.model_validate(
        {
            "name": "breast-cancer",
            "architecture": {"kind": "mlp", "hidden": [4]},
            "contract": {
                "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
                "label": {"name": "malignant"},
            },
        }
    )
    plan = {"clip_norm": 0.5, "noise_multiplier": 1.0, "sampling_rate": 0.5, "delta": 1e-5}
    plan |= {"expected_batch_size": 16, "evaluation_noise_multiplier": 4.0}
    plan |= {"steps_per_round": 2, "rounds": 10}
    invitation = RoundInvitation.model_validate(
        {
            "round_id": uuid4(),
            "training_id": uuid4(),
            "number": 1,
            "kind": "training",
            "model": model,
            "weights": "0" * 64,
            "plan": plan,
            "roster": roster,
            "deadline_s": 60,
        }
    )
    return {"invitation": invitation.model_dump(mode="json")}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """A stack below a folder of the test, whatever this process's environment says."""
    for name in [name for name in os.environ if name.startswith(("FEDMED_", "PREFECT_API_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDMED_HOME", str(tmp_path / "home"))
    return StackSettings()


@pytest.fixture
def fedmed(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = dict(os.environ)
    lines = Console(width=200)

    # As the command has them once it has begun again.
    for name, value in {**NO_TELEMETRY, **LEAN_CLIENT, **ONE_THREAD, **CLEAN}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, answer: str = "") -> Result:
        hospital = (cli_code, cli_hospital, cli_join, cli_ledger, cli_members, cli_policy)
        for module in (cli, *hospital, cli_compare, cli_data, cli_privacy, cli_report, cli_user):
            monkeypatch.setattr(module, "_out", lines)
        return CliRunner().invoke(cli.app, arguments, input=answer)

    yield run
    os.environ.clear()
    os.environ.update(before)


class FakeOperator:
    """As much of the operator's client as is called."""

    def __init__(self) -> None:
        self.requests: list[TrainingRequest] = []
        self.added: list[SiteSettings] = []
        self.models: list[ModelSpec] = []

    def start_training(self, request: TrainingRequest) -> dict[str, Any]:
        self.requests.append(request)
        return {"training_id": "t-1"}

    def add_model(self, spec: ModelSpec) -> None:
        self.models.append(spec)

    def put_public_test(self, name: str, file: Path) -> dict[str, Any]:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return {"name": name, "version": 1, "public_test": digest}

    def add_hospital(self, site: SiteSettings) -> None:
        self.added.append(site)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeOperator:
    fake = FakeOperator()

    @contextmanager
    def connect(settings: StackSettings) -> Iterator[FakeOperator]:
        yield fake

    monkeypatch.setattr(operator.OperatorClient, "connect", connect)
    return fake
